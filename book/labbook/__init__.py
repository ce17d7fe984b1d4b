"""What measures, shows and examines the chapters of the book."""
