"""spark-submit entries, in the order the data flows.

`ingest_flows`, `refine_flows`, `build_features`, `train_detector`, `evaluate_detector`; `score_flows` judges
new flows with the served model, `explain_alerts` says which features raised its alerts; `retrain` is the first
five in one process, every night;
`unknown_attacks` trains without each attack and looks what becomes of it; `tend_tables` keeps the tables small.
"""
