"""What programs run on: meshes, sharding rules, processes, the compiler."""
