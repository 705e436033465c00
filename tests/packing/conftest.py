"""A small data set that is packed once."""

from packed import given as given
from packed import tars_of_given as tars_of_given
