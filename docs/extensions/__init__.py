"""What the pages need of Sphinx beyond what others have written."""
