/* Removal of what was marked deleted. The large tables go in batches; what is left is small and goes with the row of the project or
 * organization, by foreign-key cascade. The audit log stays. */
#include "db/maintain_private.h"

#include <stdlib.h>

struct step {
    const char *what, *sql;
};

/* $1 organization, $2 project. In an order that no foreign key without a cascade stands against: gates before the datasets they ask
 * for, references before the prompts they name. Rows are found by ctid: with IN the planner may compare each with each while a table has no
 * statistics yet. In spans a ctid is one of each partition, all of them rows of the same project. */
static const struct step project_steps[] = {
    {"removing spans", "DELETE FROM spans WHERE organization_id = $1 AND project_id = $2 AND ctid = ANY (ARRAY(SELECT ctid FROM spans WHERE"
                       " organization_id = $1 AND project_id = $2 LIMIT 5000))"},
    {"removing traces",
     "DELETE FROM traces WHERE organization_id = $1 AND ctid = ANY (ARRAY(SELECT ctid FROM traces WHERE organization_id = $1"
     " AND project_id = $2 LIMIT 5000))"},
    {"removing earlier scores",
     "DELETE FROM score_history WHERE organization_id = $1 AND ctid = ANY (ARRAY(SELECT c.ctid FROM scores p JOIN score_history c ON"
     " c.organization_id = p.organization_id AND c.score_id = p.id WHERE p.organization_id = $1 AND p.project_id = $2 LIMIT 5000))"},
    {"removing scores",
     "DELETE FROM scores WHERE organization_id = $1 AND ctid = ANY (ARRAY(SELECT ctid FROM scores WHERE organization_id = $1"
     " AND project_id = $2 LIMIT 5000))"},
    {"removing violations",
     "DELETE FROM policy_violations WHERE organization_id = $1 AND ctid = ANY (ARRAY(SELECT ctid FROM policy_violations"
     " WHERE organization_id = $1 AND project_id = $2 LIMIT 5000))"},
    {"removing evaluation results",
     "DELETE FROM evaluation_results WHERE organization_id = $1 AND ctid = ANY (ARRAY(SELECT c.ctid FROM evaluations p JOIN"
     " evaluation_results c ON c.organization_id = p.organization_id AND c.evaluation_id = p.id WHERE p.organization_id = $1"
     " AND p.project_id = $2 LIMIT 5000))"},
    {"removing evaluations", "DELETE FROM evaluations WHERE organization_id = $1 AND ctid = ANY (ARRAY(SELECT ctid FROM evaluations WHERE"
                             " organization_id = $1 AND project_id = $2 LIMIT 5000))"},
    {"removing label gates", "DELETE FROM label_gates WHERE organization_id = $1 AND ctid = ANY (ARRAY(SELECT ctid FROM label_gates WHERE"
                             " organization_id = $1 AND project_id = $2 LIMIT 5000))"},
    {"removing dataset items",
     "DELETE FROM dataset_items WHERE organization_id = $1 AND ctid = ANY (ARRAY(SELECT c.ctid FROM datasets p JOIN"
     " dataset_items c ON c.organization_id = p.organization_id AND c.dataset_id = p.id WHERE p.organization_id = $1 AND"
     " p.project_id = $2 LIMIT 5000))"},
    {"removing datasets",
     "DELETE FROM datasets WHERE organization_id = $1 AND ctid = ANY (ARRAY(SELECT ctid FROM datasets WHERE organization_id"
     " = $1 AND project_id = $2 LIMIT 500))"},
    {"removing executions",
     "DELETE FROM executions WHERE organization_id = $1 AND ctid = ANY (ARRAY(SELECT c.ctid FROM prompts p JOIN executions c"
     " ON c.organization_id = p.organization_id AND c.prompt_id = p.id WHERE p.organization_id = $1 AND p.project_id = $2"
     " LIMIT 5000))"},
    {"removing prompt references",
     "DELETE FROM prompt_references WHERE organization_id = $1 AND ctid = ANY (ARRAY(SELECT c.ctid FROM prompts p JOIN"
     " prompt_references c ON c.organization_id = p.organization_id AND c.prompt_id = p.id WHERE p.organization_id = $1 AND"
     " p.project_id = $2 LIMIT 5000))"},
    {"removing prompt words",
     "DELETE FROM prompt_words WHERE organization_id = $1 AND ctid = ANY (ARRAY(SELECT ctid FROM prompt_words WHERE"
     " organization_id = $1 AND project_id = $2 LIMIT 5000))"},
    {"removing prompt versions",
     "DELETE FROM prompt_versions WHERE organization_id = $1 AND ctid = ANY (ARRAY(SELECT c.ctid FROM prompts p JOIN"
     " prompt_versions c ON c.organization_id = p.organization_id AND c.prompt_id = p.id WHERE p.organization_id = $1 AND"
     " p.project_id = $2 LIMIT 1000))"},
    {"removing prompts",
     "DELETE FROM prompts WHERE organization_id = $1 AND ctid = ANY (ARRAY(SELECT ctid FROM prompts WHERE organization_id ="
     " $1 AND project_id = $2 LIMIT 1000))"},
    {"removing policy statistics",
     "DELETE FROM policy_daily_stats WHERE organization_id = $1 AND ctid = ANY (ARRAY(SELECT ctid FROM policy_daily_stats WHERE"
     " organization_id = $1 AND project_id = $2 LIMIT 5000))"},
    {"removing rate windows",
     "DELETE FROM rate_windows WHERE organization_id = $1 AND ctid = ANY (ARRAY(SELECT c.ctid FROM policies p JOIN rate_windows c ON"
     " c.organization_id = p.organization_id AND c.policy_id = p.id WHERE p.organization_id = $1 AND p.project_id = $2 LIMIT 5000))"},
    {"removing policies",
     "DELETE FROM policies WHERE organization_id = $1 AND ctid = ANY (ARRAY(SELECT ctid FROM policies WHERE organization_id"
     " = $1 AND project_id = $2 LIMIT 5000))"},
    {"removing certificate names",
     "DELETE FROM certificate_names WHERE organization_id = $1 AND service_account_id IN (SELECT id FROM service_accounts"
     " WHERE organization_id = $1 AND project_id = $2)"},
};
static const struct step project_end = {"removing a project", "DELETE FROM projects WHERE organization_id = $1 AND id = $2"};

/* $1 organization; after its projects. */
static const struct step organization_steps[] = {
    {"removing violations",
     "DELETE FROM policy_violations WHERE organization_id = $1 AND ctid = ANY (ARRAY(SELECT ctid FROM policy_violations"
     " WHERE organization_id = $1 LIMIT 5000))"},
    {"removing policy statistics",
     "DELETE FROM policy_daily_stats WHERE organization_id = $1 AND ctid = ANY (ARRAY(SELECT ctid FROM policy_daily_stats WHERE"
     " organization_id = $1 LIMIT 5000))"},
    {"removing rate windows",
     "DELETE FROM rate_windows WHERE organization_id = $1 AND ctid = ANY (ARRAY(SELECT ctid FROM rate_windows WHERE organization_id = $1"
     " LIMIT 5000))"},
    {"removing usage", "DELETE FROM usage_daily WHERE organization_id = $1 AND ctid = ANY (ARRAY(SELECT ctid FROM usage_daily WHERE"
                       " organization_id = $1 LIMIT 5000))"},
    {"removing certificate names", "DELETE FROM certificate_names WHERE organization_id = $1"},
    {"removing login names", "DELETE FROM login_names WHERE organization_id = $1 AND ctid = ANY (ARRAY(SELECT ctid FROM login_names WHERE"
                             " organization_id = $1 LIMIT 5000))"},
    {"removing users",
     "DELETE FROM users WHERE organization_id = $1 AND ctid = ANY (ARRAY(SELECT ctid FROM users WHERE organization_id = $1"
     " LIMIT 1000))"},
    {"removing tags", "DELETE FROM tags WHERE organization_id = $1 AND ctid = ANY (ARRAY(SELECT ctid FROM tags WHERE organization_id = $1"
                      " LIMIT 5000))"},
};
static const struct step organization_end = {"removing an organization", "DELETE FROM organizations WHERE organization_id = $1"};

enum {
    PROJECT_STEPS = sizeof project_steps / sizeof project_steps[0],
    ORGANIZATION_STEPS = sizeof organization_steps / sizeof organization_steps[0]
};

static forge_code run_step(struct db_maintainer *maintainer, const struct step *step, const char *organization_id, const char *project_id,
                           int64_t *total, struct forge_error *error)
{
    const struct db_maintain_batch batch = {step->what, step->sql, {organization_id, project_id}, project_id != NULL ? 2 : 1};
    return db_maintain_delete(maintainer, organization_id, &batch, total, error);
}

static forge_code remove_project(struct db_maintainer *maintainer, const char *organization_id, const char *project_id,
                                 struct forge_error *error)
{
    struct db_maintain_report *report = maintainer->report;
    forge_code rc = FORGE_OK;
    for (int i = 0; i < PROJECT_STEPS && rc == FORGE_OK; i++)
        rc = run_step(maintainer, &project_steps[i], organization_id, project_id, &report->rows_removed, error);
    return rc == FORGE_OK ? run_step(maintainer, &project_end, organization_id, project_id, &report->projects_removed, error) : rc;
}

static forge_code remove_listed_projects(struct db_maintainer *maintainer, const char *organization_id, const char *list,
                                         struct forge_error *error)
{
    PGresult *rows;
    forge_code rc = db_maintain_query(maintainer, organization_id, list, "listing projects", &rows, error);
    if (rc != FORGE_OK)
        return rc;
    for (int i = 0; i < PQntuples(rows) && rc == FORGE_OK && !db_maintain_is_stopped(maintainer); i++)
        rc = remove_project(maintainer, organization_id, PQgetvalue(rows, i, 0), error);
    PQclear(rows);
    return rc;
}

forge_code db_maintain_remove_projects(struct db_maintainer *maintainer, const char *organization_id, struct forge_error *error)
{
    return remove_listed_projects(maintainer, organization_id,
                                  "SELECT id FROM projects WHERE organization_id = $1 AND deleted_at IS NOT NULL", error);
}

forge_code db_maintain_remove_organization(struct db_maintainer *maintainer, const char *organization_id, struct forge_error *error)
{
    struct db_maintain_report *report = maintainer->report;
    forge_code rc = remove_listed_projects(maintainer, organization_id, "SELECT id FROM projects WHERE organization_id = $1", error);
    for (int i = 0; i < ORGANIZATION_STEPS && rc == FORGE_OK; i++)
        rc = run_step(maintainer, &organization_steps[i], organization_id, NULL, &report->rows_removed, error);
    return rc == FORGE_OK ? run_step(maintainer, &organization_end, organization_id, NULL, &report->organizations_removed, error) : rc;
}
