"""What is right and wrong with a training configuration, judged from the facts about it."""
