/* git_run.h - inside build/: which repository is meant, and one hardened run of git. */
#ifndef BUILD_GIT_RUN_H
#define BUILD_GIT_RUN_H

#include "build/argv.h"
#include "build/git.h"

enum repo_kind { REPO_NONE = 0, REPO_LOCAL, REPO_REMOTE };

struct repo {
    enum repo_kind kind;
    char *where; /* absolute real path, or the URL */
};

/* -ERR_INVALID: malformed, or a protocol that is not allowed; -ERR_NOT_FOUND: a path without a
 * repository. */
MUST_CHECK int repo_parse(struct repo *ret, const char *text, struct err *err);
void repo_release(struct repo *r);

/* Adds the directories that git reads of a local repository: its own, and where it borrows from, as
 * a worktree and a shared clone do (of the same owner only). Of one by URL there are none. */
void repo_add_dirs(const struct repo *r, struct argv *out);

/* Publishes the global configuration for git: safe.directory names the repository. */
MUST_CHECK int git_write_config(const char *path, const struct repo *r, struct err *err);

struct git_run {
    const struct git_place *place; /* NULL: no sandbox, no lease */
    const struct sandbox_view *view;
    const struct repo *repo;
    const char *config; /* of git_write_config() */
    const char *dir;    /* -C: where git runs */
    char *const *env;   /* more, NULL-ended; may be NULL */
    char *const *args;  /* behind "git" and the hardening */
    int64_t timeout_ms;
};

/* Runs it; its output is appended to out. A failure of git is an error with git's own words:
 * -ERR_UNREACHABLE, -ERR_DENIED, -ERR_NOT_FOUND as far as they tell, else -ERR_IO. */
MUST_CHECK int git_run(const struct git_run *g, struct buf *out, struct err *err);

#endif
