"""Reads what a run has written down, and shows it: a page of HTML, and pictures.

``reading`` takes journals and logged numbers, ``charts`` says what is to be drawn, ``page`` and ``pictures`` draw it.
"""
