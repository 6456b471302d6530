/* Every setting's value, as app/config.h reads it. The rows with variable, default, range and meaning are in settings.c. */
#ifndef SERVER_APP_SETTINGS_H
#define SERVER_APP_SETTINGS_H

#include "rpc/server.h"

#include <stdbool.h>
#include <stddef.h>

enum app_mode { APP_PRODUCTION, APP_DEVELOPMENT };

struct app_config {
    /* files and folders */
    char *env_file, *key_file, *migrations_folder;
    /* process */
    int mode;       /* enum app_mode */
    int log_level;  /* enum base_log_level */
    int log_format; /* enum base_log_format */
    /* listening */
    char *listen_host, *http_host, *ipc_url;
    unsigned listen_port, http_port, http_connections_max, ipc_contexts, ipc_pipes_max;
    /* TLS */
    char *tls_certificate_file, *tls_key_file, *tls_ca_file, *tls_crl_file;
    int tls_min_version; /* 0: 1.3, 1: 1.2 */
    int tls_client_auth; /* enum forge_tls_client_auth */
    /* database */
    char *database_url, *database_owner_url, *database_maint_url, *database_superuser_url, *database_name;
    bool database_passwords;
    unsigned database_connections_kept, database_connections_extra, database_connection_idle_ms, database_connect_timeout_ms;
    unsigned change_poll_interval_ms, maintenance_interval_ms;
    unsigned trace_retention_days;
    char *trace_archive_folder; /* "none": spans go for good */
    /* threads, queues and limits of the wire; 0 loops and auth threads: by the number of cores */
    struct rpc_server_config rpc;
    size_t byte_budget;
    unsigned principal_cache_max;
    unsigned policy_organizations_max;
    unsigned drain_timeout_ms;
    /* bootstrap token */
    unsigned ttl_ms;
    /* maintain archive-executions */
    unsigned older_than_h, rows_per_file;
    char *archive_folder;
    /* migrate */
    char *database_scratch_url, *schema_diff_command, *migrate_message;
    bool migrate_verbose, migrate_sql, migrate_autogenerate;
};

#endif
