"""The only room that knows there is more than one worker, and the only one that imports TensorFlow or Horovod.

- `launch` starts one process a rank on Spark's executors; `barrier` is what an executor does for it,
  `worker` is that process, `rendezvous` is where the ranks find each other.
- `shards` deals rows to ranks, `communicate` adds numbers up over ranks.
- `network`, `train` and `scoring` are the dense net itself.
"""
