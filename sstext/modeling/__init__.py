"""The student model: a pretrained encoder with a classification head."""
