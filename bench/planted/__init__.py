"""Dictionaries learnt from planted data, beside other libraries': who finds the atoms that the frames were made of?"""
