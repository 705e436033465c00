"""mgtool: data preparation, batch inference and official scores for multi-granularity vision-language models.

detect   pictures                         -> box shards
pack     pictures + boxes + conversations -> WebDataset tars
infer    tars or questions                -> answers
eval     answers + ground truth           -> scores and a report
"""
