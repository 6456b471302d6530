/* What a call used, for GetUsage: announced by its handler, counted when the call was answered OK. */
#ifndef SERVER_RPC_USAGE_H
#define SERVER_RPC_USAGE_H

#include "rpc/call.h"

#include "forge/v1/organization.pb-c.h"

/* Adds to what this call used of a metric in a project. A handler that runs again (a lost COMMIT) begins anew, a replayed write counts
 * nothing. */
void rpc_usage_add(struct rpc_call *call, Forge__V1__UsageMetric metric, const struct forge_uuid *project_id, int64_t amount);

/* A metric as the column usage_daily.metric has it, such as "prompt_reads"; NULL for one that does not exist. */
const char *rpc_usage_metric_name(Forge__V1__UsageMetric metric);
/* USAGE_METRIC_UNSPECIFIED when there is none of this name. */
Forge__V1__UsageMetric rpc_usage_metric_find(const char *name);

#endif
