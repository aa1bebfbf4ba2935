/* git.h - commits by name, and their files, from repositories that nobody vouches for.
 *
 * A repository is a local path or a URL (https, ssh or host:path). git runs without system and user
 * configuration, prompts, hooks, submodules and file-system monitors, with objects checked as they
 * come in, and may use the `file` protocol for a local path only. `safe.directory` names that one
 * directory, so that it may belong to another user. Fetching and checking out run in the sandbox.
 *
 * Fetched commits are kept in a bare mirror per repository, MIRRORS/<hash of its name>, under a
 * lock file; only a commit that is not there is fetched. A mirror that git cannot use any more is
 * made anew beside it and takes its place by rename. */
#ifndef BUILD_GIT_H
#define BUILD_GIT_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "build/lease.h"
#include "build/sandbox.h"

enum { GIT_SHA_HEX = 41, GIT_REF_MAX_BYTES = 256 };

/* The commit that ref (branch, tag, full or abbreviated id, HEAD~2, …) names. Of a repository by URL
 * branches, tags, HEAD and full ids only, and a full id is taken as it is. Blocks, at most a minute.
 * -ERR_NOT_FOUND: no such repository, or "no commit 'abc' in /path"; -ERR_INVALID: a malformed name,
 * an ambiguous id, a protocol that is not allowed; -ERR_UNREACHABLE; -ERR_DENIED. */
MUST_CHECK int git_resolve(const char *repo, const char *ref, char sha[GIT_SHA_HEX],
                           struct err *err);

/* The root of the repository that path, a file or directory, lies in. -ERR_NOT_FOUND if in none. */
MUST_CHECK int git_repository_of(const char *path, struct buf *out, struct err *err);

/* Are files of the local repository changed that no commit holds? Untracked ones do not count. False
 * also where it cannot be told: of a URL, and of somebody else's repository, whose filters would run.
 * Blocks. */
bool git_has_changes(const char *repo);

struct git_place {
    const char *mirrors; /* absolute; made if missing */
    const struct sandbox *sandbox;
    struct lease *lease;                                  /* may be NULL */
    const char *tag;                                      /* of the processes; may be NULL */
    void (*log)(void *ctx, const void *data, size_t len); /* may be NULL */
    void *ctx;
};

/* Puts the files of commit sha (40 hex digits) into folder/src; folder has empty src/, home/ and
 * tmp/. Errors as git_resolve(), and of the lease. Blocks. */
MUST_CHECK int git_checkout(const struct git_place *place, const char *repo, const char *sha,
                            const char *folder, struct err *err);

#endif
