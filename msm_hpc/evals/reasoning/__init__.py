"""By what kinds of reasoning do models come to act as they do?"""
