"""A hundred paragraphs, written for this project, which no model is to be trained on."""
