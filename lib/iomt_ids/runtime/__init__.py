"""The only room that touches disk, clock, cluster and environment."""
