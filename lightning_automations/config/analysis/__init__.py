"""What a training configuration says, and what is wrong with it."""
