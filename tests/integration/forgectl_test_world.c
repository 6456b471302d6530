#include "forgectl_test_support.h"

struct world world;

void forgectl_open_servers(unsigned count)
{
    const struct world_options options = {.servers = count};
    world_open(&world, &options);
    forgectl_make_home();
    forgectl_set("LC_ALL", "C.UTF-8");
    forgectl_set("FORGE_SERVER", world_address(&world, 0));
    forgectl_set("FORGE_CA", tls_files_path(forged_world_tls(world.files), "ca.pem"));
    forgectl_set("FORGE_TOKEN", world.home.admin_key);
}

int forgectl_open_world(void **state)
{
    forgectl_open_servers(1);
    return 0;
}

int forgectl_close_world(void **state)
{
    forgectl_remove_home();
    world_close(&world);
    return 0;
}
