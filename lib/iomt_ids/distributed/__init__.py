"""The only room that knows there is more than one worker, and the only one that imports TensorFlow or Horovod.

- `launch` starts one process a rank on Spark's executors, in a barrier stage that `stage` watches; `barrier` is what an
  executor does for it, `worker` is that process, `rendezvous` is where the ranks find each other, by requests that are
  `signed`, for Gloo through a `relay`.
- `checkpoint` writes where a training stands, `resume` starts it again from there, `chunks` keeps its finished parts.
- `communicate` joins ranks by Horovod, `collective` by TensorFlow.
- `shards` deals rows to ranks.
- `network`, `train` and `scoring` are the dense net itself.
"""
