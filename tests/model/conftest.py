"""The conformance kit, imported once for all tests."""

from imported import expected as expected
from imported import kit as kit
from imported import model as model
from imported import model_dir as model_dir
from imported import parts as parts
from imported import picture as picture
from imported import processor as processor
