#include "build/git.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "build/git_run.h"
#include "io/files.h"

enum { RESOLVE_MS = 60000 };

static bool is_sha(const char *text, size_t len)
{
    return len == GIT_SHA_HEX - 1 && strspn(text, "0123456789abcdef") >= GIT_SHA_HEX - 1;
}

static int check_ref(const char *ref, struct err *err)
{
    size_t len = strlen(ref);

    if (len == 0 || len > GIT_REF_MAX_BYTES || ref[0] == '-')
        return err_set(err, ERR_INVALID, "'%.100s' is no name of a commit", ref);
    for (const char *p = ref; *p != '\0'; p++) {
        if (iscntrl((unsigned char)*p) || *p == ' ')
            return err_set(err, ERR_INVALID, "'%.100s' is no name of a commit", ref);
    }
    return 0;
}

/* Calls git without a sandbox, with a configuration of its own that is gone afterwards. */
static int ask(const struct repo *repo, const char *dir, char *const *args, struct buf *out,
               struct err *err)
{
    const char *tmp = getenv("TMPDIR");
    AUTO_FREE char *folder = mem_printf("%s/slipway-git-XXXXXX", tmp != NULL ? tmp : "/tmp");
    AUTO_FREE char *config = NULL;
    struct git_run g = { .repo = repo, .dir = dir, .args = args, .timeout_ms = RESOLVE_MS };
    struct err why = ERR_INIT;
    int r;

    if (mkdtemp(folder) == NULL)
        return err_set(err, ERR_IO, "no temporary directory %s can be made", folder);
    config = mem_printf("%s/config", folder);
    r = git_write_config(config, repo, err);
    g.config = config;
    if (r == 0)
        r = git_run(&g, out, err);
    if (dir_remove(folder, &why) < 0)
        log_warn("%s", why.text);
    return r;
}

static int no_commit(const char *repo, const char *ref, struct err *err)
{
    if (strcmp(ref, "HEAD") == 0)
        return err_set(err, ERR_NOT_FOUND, "nothing is committed in %s: git commit first", repo);
    return err_set(err, ERR_NOT_FOUND, "no commit '%s' in %s", ref, repo);
}

static int resolve_local(const struct repo *repo, const char *ref, char sha[GIT_SHA_HEX],
                         struct err *err)
{
    static char rev_parse[] = "rev-parse", verify[] = "--verify", end[] = "--end-of-options";
    AUTO_FREE char *commit = mem_printf("%s^{commit}", ref);
    char *const args[] = { rev_parse, verify, end, commit, NULL };
    AUTO_BUF out = BUF_INIT;
    int r = ask(repo, repo->where, args, &out, err);

    if (strstr(buf_str(&out), "is ambiguous\n") != NULL && r < 0)
        return err_set(err, ERR_INVALID, "'%s' is the start of several commits in %s", ref,
                       repo->where);
    if (r < 0 && (strstr(buf_str(&out), "Needed a single revision") != NULL ||
                  strstr(buf_str(&out), "unknown revision") != NULL))
        return no_commit(repo->where, ref, err);
    if (r < 0)
        return r;
    /* Warnings may stand before it. */
    for (const char *line = out.data; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (is_sha(line, strcspn(line, "\n"))) {
            memcpy(sha, line, GIT_SHA_HEX - 1);
            sha[GIT_SHA_HEX - 1] = '\0';
            return 0;
        }
    }
    return no_commit(repo->where, ref, err);
}

/* How well a line "SHA<tab>NAME" of ls-remote fits ref: 0 not at all. */
static int fit(const char *name, size_t len, const char *ref)
{
    static const char *const forms[] = { "refs/heads/%s", "refs/tags/%s", "refs/tags/%s^{}", "%s" };

    for (size_t i = COUNT_OF(forms); i-- > 0;) {
        const char *hole = strstr(forms[i], "%s");
        size_t before = (size_t)(hole - forms[i]), after = strlen(hole + 2);

        if (len == before + strlen(ref) + after && memcmp(name, forms[i], before) == 0 &&
            memcmp(name + before, ref, strlen(ref)) == 0 &&
            memcmp(name + len - after, hole + 2, after) == 0)
            return (int)i + 1;
    }
    return 0;
}

static int resolve_remote(const struct repo *repo, const char *ref, char sha[GIT_SHA_HEX],
                          struct err *err)
{
    static char ls_remote[] = "ls-remote", end[] = "--end-of-options";
    AUTO_FREE char *peeled = mem_printf("%s^{}", ref);
    AUTO_FREE char *pattern = mem_strdup(ref);
    char *const args[] = { ls_remote, end, repo->where, pattern, peeled, NULL };
    AUTO_BUF out = BUF_INIT;
    int best = 0;
    int r;

    if (is_sha(ref, strlen(ref))) {
        memcpy(sha, ref, GIT_SHA_HEX);
        return 0;
    }
    r = ask(repo, NULL, args, &out, err);
    if (r < 0)
        return err_wrap(err, "%s", repo->where);
    for (const char *line = out.data; line != NULL && *line != '\0';) {
        size_t len = strcspn(line, "\n");
        const char *tab = memchr(line, '\t', len);

        if (tab != NULL && is_sha(line, (size_t)(tab - line))) {
            int f = fit(tab + 1, len - (size_t)(tab + 1 - line), ref);

            if (f > best) {
                best = f;
                memcpy(sha, line, GIT_SHA_HEX - 1);
                sha[GIT_SHA_HEX - 1] = '\0';
            }
        }
        line += len + (line[len] == '\n');
    }
    return best > 0 ? 0 : no_commit(repo->where, ref, err);
}

int git_resolve(const char *repo, const char *ref, char sha[GIT_SHA_HEX], struct err *err)
{
    struct repo parsed;
    int r = check_ref(ref, err);

    if (r == 0)
        r = repo_parse(&parsed, repo, err);
    if (r < 0)
        return r;
    r = parsed.kind == REPO_LOCAL ? resolve_local(&parsed, ref, sha, err)
                                  : resolve_remote(&parsed, ref, sha, err);
    repo_release(&parsed);
    return r;
}

bool git_has_changes(const char *repo)
{
    static char status[] = "status", porcelain[] = "--porcelain",
                tracked[] = "--untracked-files=no";
    char *const args[] = { status, porcelain, tracked, NULL };
    AUTO_BUF out = BUF_INIT;
    struct repo parsed;
    struct stat st;
    bool changed = false;

    if (repo_parse(&parsed, repo, NULL) < 0)
        return false;
    if (parsed.kind == REPO_LOCAL && stat(parsed.where, &st) == 0 && st.st_uid == geteuid())
        changed = ask(&parsed, parsed.where, args, &out, NULL) == 0 && out.len > 0;
    repo_release(&parsed);
    return changed;
}

int git_repository_of(const char *path, struct buf *out, struct err *err)
{
    AUTO_BUF real = BUF_INIT;

    if (path_real(&real, path, err) < 0)
        return err_wrap(err, "%s", path);
    for (;;) {
        AUTO_FREE char *dot_git = mem_printf("%s/.git", real.len == 1 ? "" : real.data);
        char *slash;

        if (path_exists(dot_git)) {
            buf_append(out, real.data, real.len);
            return 0;
        }
        slash = strrchr(real.data, '/');
        if (slash == NULL || real.len == 1)
            return err_set(err, ERR_NOT_FOUND, "%s lies in no git repository", path);
        real.len = slash == real.data ? 1 : (size_t)(slash - real.data);
        real.data[real.len] = '\0';
    }
}
