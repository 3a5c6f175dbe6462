# What scripts/set_up.sh changes in Horovod's horovod/common/gloo/gloo_context.cc; decision 4 says why.
/::InitializeForProcessSet(/,/CreateDevice/ s/= gloo_iface_;/= global_context.gloo_iface_;/
