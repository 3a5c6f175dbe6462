"""Predictions to judgement: counted once in Spark, scored in plain Python, shown in a report, judged by a gate."""
