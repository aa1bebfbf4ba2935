/* The mirrors of git.h: fetching a commit once, and checking it out. A commit that was fetched
 * whole has the ref refs/slipway/<sha>; an interrupted fetch leaves objects, but no ref. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "build/git_run.h"
#include "io/files.h"

enum { FETCH_MS = 900000, LOCAL_MS = 300000, LOCK_STEP_MS = 50, NAME_HEX = 24 };

struct mirror {
    const struct git_place *place;
    const struct repo *repo;
    const char *sha;
    const char *folder; /* of the build */
    char *path, *config;
};

static void say(const struct mirror *m, const char *text)
{
    if (m->place->log != NULL)
        m->place->log(m->place->ctx, text, strlen(text));
}

/* Runs git on the repository at dir, which it may write to. */
static int run(const struct mirror *m, const char *dir, bool network, char *const *args,
               struct buf *out, struct err *err)
{
    const char *agent = getenv("SSH_AUTH_SOCK");
    const char *writable[] = { dir, NULL };
    struct sandbox_view view = { .folder = m->folder,
                                 .dir = ".",
                                 .writable = writable,
                                 .network = network,
                                 .secrets = network };
    struct git_run g = { .place = m->place,
                         .view = &view,
                         .repo = m->repo,
                         .config = m->config,
                         .dir = dir,
                         .args = args,
                         .timeout_ms = FETCH_MS };
    AUTO_ARGV env = ARGV_INIT;
    AUTO_ARGV readable = ARGV_INIT;

    argv_addf(&env, "GIT_DIR=%s", dir);
    g.env = env.items;
    argv_add(&readable, m->config);
    repo_add_dirs(m->repo, &readable);
    if (network && agent != NULL && path_exists(agent))
        argv_add(&readable, agent);
    view.readable = (const char *const *)readable.items;
    return git_run(&g, out, err);
}

static int git(const struct mirror *m, const char *dir, bool network, struct err *err,
               const char *const *words)
{
    AUTO_ARGV args = ARGV_INIT;
    AUTO_BUF out = BUF_INIT;

    for (; *words != NULL; words++)
        argv_add(&args, *words);
    return run(m, dir, network, args.items, &out, err);
}

#define GIT(m, dir, network, err, ...) \
    git((m), (dir), (network), (err), (const char *const[]){ __VA_ARGS__, NULL })

static bool has_commit(const struct mirror *m, const char *dir)
{
    AUTO_FREE char *ref = mem_printf("refs/slipway/%s^{commit}", m->sha);

    return path_is_dir(dir) &&
           GIT(m, dir, false, NULL, "rev-parse", "--verify", "--quiet", ref) == 0;
}

/* The one commit without its history; where the server does not give commits by id, all branches
 * and tags. */
static int fetch(const struct mirror *m, const char *dir, struct err *err)
{
    AUTO_FREE char *one = mem_printf("+%s:refs/slipway/%s", m->sha, m->sha);
    AUTO_FREE char *ref = mem_printf("refs/slipway/%s", m->sha);
    AUTO_FREE char *commit = mem_printf("%s^{commit}", m->sha);
    bool network = m->repo->kind == REPO_REMOTE;
    int r = GIT(m, dir, network, err, "fetch", "--quiet", "--no-tags", "--depth=1",
                "--no-recurse-submodules", "--no-write-fetch-head", "--end-of-options",
                m->repo->where, one);

    if (r != -(int)ERR_NOT_FOUND && r != -(int)ERR_DENIED && r != -(int)ERR_IO)
        return r;
    r = GIT(m, dir, network, err, "fetch", "--quiet", "--no-tags", "--no-recurse-submodules",
            "--no-write-fetch-head", "--end-of-options", m->repo->where,
            "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*");
    if (r < 0)
        return r;
    if (GIT(m, dir, false, err, "rev-parse", "--verify", "--quiet", commit) < 0)
        return err_set(err, ERR_NOT_FOUND, "no commit '%s' in %s", m->sha, m->repo->where);
    return GIT(m, dir, false, err, "update-ref", ref, m->sha);
}

/* A new mirror beside the place of the old one, which stays if this fails. */
static int make_mirror(const struct mirror *m, struct err *err)
{
    AUTO_FREE char *staging = mem_printf("%s.new", m->path);
    struct err why = ERR_INIT;
    int r = dir_remove(staging, err);

    if (r == 0)
        r = dir_make(staging, 0700, err);
    if (r == 0)
        r = GIT(m, staging, false, err, "init", "--quiet", "--bare", "--template=", ".");
    if (r == 0)
        r = fetch(m, staging, err);
    if (r == 0)
        r = dir_remove(m->path, err);
    if (r == 0 && rename(staging, m->path) < 0)
        r = err_sys(err, errno, "rename %s", staging);
    if (r < 0 && dir_remove(staging, &why) < 0)
        log_warn("%s", why.text);
    return r;
}

static int ensure_commit(const struct mirror *m, struct err *err)
{
    struct err why = ERR_INIT;
    int r;

    if (has_commit(m, m->path))
        return 0;
    say(m, "fetching the commit\n");
    if (path_is_dir(m->path)) {
        r = fetch(m, m->path, &why);
        if (r == 0)
            return 0;
        if (r == -(int)ERR_NOT_FOUND || r == -(int)ERR_INVALID ||
            lease_check(m->place->lease, err) < 0)
            return err_set(err, why.code, "%s", why.text);
        log_warn("mirror %s of %s is made anew: %s", m->path, m->repo->where, why.text);
    }
    return make_mirror(m, err);
}

static int take_lock(const struct mirror *m, int *ret_fd, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s.lock", m->path);

    for (;;) {
        int r = file_lock(ret_fd, path, err);

        if (r != -(int)ERR_EXISTS)
            return r;
        r = lease_check(m->place->lease, err);
        if (r < 0)
            return r;
        (void)poll(NULL, 0, LOCK_STEP_MS);
    }
}

/* The checkout has no .git: a build sees files, and its commit in the environment. */
static int check_out(const struct mirror *m, struct err *err)
{
    static char read_tree[] = "read-tree", checkout_index[] = "checkout-index", all[] = "--all",
                force[] = "--force", quiet[] = "--quiet";
    AUTO_FREE char *sha = mem_strdup(m->sha);
    char *const read_args[] = { read_tree, sha, NULL };
    char *const write_args[] = { checkout_index, all, force, quiet, NULL };
    const char *readable[] = { m->path, m->config, NULL };
    struct sandbox_view view = { .folder = m->folder, .dir = ".", .readable = readable };
    AUTO_FREE char *src = sandbox_src(m->place->sandbox, &view);
    AUTO_FREE char *tmp = sandbox_tmp(m->place->sandbox, &view);
    AUTO_ARGV env = ARGV_INIT;
    AUTO_BUF out = BUF_INIT;
    struct git_run g = { .place = m->place,
                         .view = &view,
                         .repo = m->repo,
                         .config = m->config,
                         .dir = src,
                         .args = read_args,
                         .timeout_ms = LOCAL_MS };
    int r;

    argv_addf(&env, "GIT_DIR=%s", m->path);
    argv_addf(&env, "GIT_WORK_TREE=%s", src);
    argv_addf(&env, "GIT_INDEX_FILE=%s/slipway-index", tmp);
    g.env = env.items;
    r = git_run(&g, &out, err);
    g.args = write_args;
    if (r == 0)
        r = git_run(&g, &out, err);
    return r;
}

static void note_submodules(const struct mirror *m)
{
    AUTO_FREE char *path = mem_printf("%s/src/.gitmodules", m->folder);

    if (path_exists(path))
        say(m, "note: the repository has submodules; they are not fetched\n");
}

static int check_out_locked(struct mirror *m, struct err *err)
{
    int lock = -1;
    int r = take_lock(m, &lock, err);

    if (r == 0)
        r = git_write_config(m->config, m->repo, err);
    if (r == 0)
        r = ensure_commit(m, err);
    if (r == 0)
        r = check_out(m, err);
    if (r == 0)
        note_submodules(m);
    if (lock >= 0)
        close(lock);
    return r;
}

int git_checkout(const struct git_place *place, const char *repo, const char *sha,
                 const char *folder, struct err *err)
{
    struct repo parsed;
    struct hash name;
    char hex[HASH_HEX];
    struct mirror m = { .place = place, .sha = sha, .folder = folder };
    int r;

    if (repo_parse(&parsed, repo, err) < 0)
        return err_wrap(err, "checkout");
    name = sha256_of(parsed.where, strlen(parsed.where));
    m.repo = &parsed;
    m.path = mem_printf("%s/%.*s", place->mirrors, NAME_HEX, hash_hex(&name, hex));
    m.config = mem_printf("%s.config", m.path);
    r = dir_make(place->mirrors, 0700, err);
    if (r == 0)
        r = check_out_locked(&m, err);
    free(m.path);
    free(m.config);
    repo_release(&parsed);
    return r < 0 ? err_wrap(err, "checkout") : 0;
}
