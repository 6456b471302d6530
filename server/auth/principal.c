#include "auth/principal.h"

#include <stddef.h>

bool auth_principal_may_use_project(const struct auth_principal *principal, const struct forge_uuid *project_id)
{
    return forge_uuid_is_nil(&principal->project_id) || forge_uuid_equal(&principal->project_id, project_id);
}

const struct forge_uuid *auth_principal_bound_project(const struct auth_principal *principal)
{
    return forge_uuid_is_nil(&principal->project_id) ? NULL : &principal->project_id;
}
