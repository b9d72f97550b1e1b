"""What detection is made of, apart from its data: matching, losses, post-processing and the mean average precision."""
