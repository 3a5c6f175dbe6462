"""spark-submit entries, in the order the data flows.

`ingest_flows`, `refine_flows`, `build_features`, `train_detector`, `evaluate_detector`; `score_flows` judges
new flows with the served model; `retrain` is the first five in one process, every night;
`tend_tables` keeps the tables small.
"""
