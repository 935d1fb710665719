"""The student: a pretrained encoder with a classification head."""
