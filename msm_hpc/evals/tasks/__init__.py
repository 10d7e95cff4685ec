"""Tasks: what a trained model is asked, what a judge is asked about the replies, and what scores come of both."""
