"""Labels of one dictionary, from evidence to verdicts: what `musae label` does.

`session` (explain, judge, count the cost), `report` (the JSON file and the table), `sensitivity` (how scores move with exemplars,
firing threshold, evidence and explainer).
"""
