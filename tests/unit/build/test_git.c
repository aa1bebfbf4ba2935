/* Names of commits, and checkouts from repositories that mean harm. */
#include "lib/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "build/git.h"
#include "io/files.h"
#include "lib/repository.h"
#include "lib/tmpdir.h"

struct fixture {
    struct test_repository repo;
    struct test_repository around; /* the worker's directory lies in somebody's clone */
    struct sandbox sandbox;
    struct git_place place;
    struct buf log;
    char *work, *mirrors;
    struct err err;
};

static void keep_log(void *ctx, const void *data, size_t len)
{
    buf_append(ctx, data, len);
}

static int set_up(void **state)
{
    struct fixture *f = mem_alloc(sizeof(*f));

    test_repository_init(&f->repo);
    f->sandbox.kind = SANDBOX_BWRAP;
    test_repository_init(&f->around);
    f->work = mem_printf("%s/work", f->around.path);
    assert_ok(dir_make(f->work, 0700, &f->err), &f->err);
    f->sandbox.work = f->work;
    f->mirrors = mem_printf("%s/mirrors", f->work);
    f->place = (struct git_place){ .mirrors = f->mirrors,
                                   .sandbox = &f->sandbox,
                                   .tag = "SLIPWAY_BUILD=test_git",
                                   .log = keep_log,
                                   .ctx = &f->log };
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    free(f->mirrors);
    free(f->work);
    buf_release(&f->log);
    free(f);
    return 0;
}

/* A new folder for a build. */
static const char *make_folder(void)
{
    static const char *const parts[] = { "src", "home", "tmp" };
    const char *folder = tmpdir_fresh();

    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        AUTO_FREE char *path = mem_printf("%s/%s", folder, parts[i]);

        assert_int_equal(mkdir(path, 0700), 0);
    }
    return folder;
}

/* Checks out the last commit, and gives the folder. */
static const char *check_out(struct fixture *f)
{
    const char *folder = make_folder();

    assert_ok(git_checkout(&f->place, f->repo.path, f->repo.sha, folder, &f->err), &f->err);
    return folder;
}

static void expect_file(const char *folder, const char *name, const char *text)
{
    AUTO_FREE char *path = mem_printf("%s/src/%s", folder, name);
    AUTO_FREE char *data = tmpdir_read(path, NULL);

    if (text == NULL)
        assert_null(data);
    else if (data == NULL || strcmp(data, text) != 0)
        fail_msg("%s: '%s' is not '%s'", path, data == NULL ? "(none)" : data, text);
}

static void resolves_names(void **state)
{
    static const char *const names[] = { "HEAD", "main",   "refs/heads/main",
                                         "v1",   "HEAD~0", "topic/x" };
    struct fixture *f = *state;
    AUTO_FREE char *url = NULL;
    char sha[GIT_SHA_HEX];

    test_repository_commit(&f->repo);
    free(TEST_GIT(&f->repo, "tag", "--annotate", "--message=m", "v1"));
    free(TEST_GIT(&f->repo, "branch", "topic/x"));
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        assert_ok(git_resolve(f->repo.path, names[i], sha, &f->err), &f->err);
        assert_string_equal(sha, f->repo.sha);
    }
    assert_ok(git_resolve(f->repo.path, f->repo.sha, sha, &f->err), &f->err);
    url = mem_printf("file://%s", f->repo.path);
    memcpy(sha, f->repo.sha, 8);
    sha[8] = '\0';
    assert_ok(git_resolve(url, sha, sha, &f->err), &f->err);
    assert_string_equal(sha, f->repo.sha);
    test_repository_commit(&f->repo);
    assert_ok(git_resolve(f->repo.path, "HEAD~1", sha, &f->err), &f->err);
    assert_string_not_equal(sha, f->repo.sha);
}

struct bad {
    const char *repo; /* NULL: the fixture's */
    const char *ref;
    enum err_code code;
    const char *says;
};

static void refuses_names(void **state)
{
    static const struct bad cases[] = {
        { NULL, "abc", ERR_NOT_FOUND, "no commit 'abc' in /" },
        { NULL, "0123456789012345678901234567890123456789", ERR_NOT_FOUND, "no commit '01234" },
        { NULL, "HEAD:file", ERR_NOT_FOUND, "no commit 'HEAD:file' in /" },
        { NULL, "HEAD~7", ERR_NOT_FOUND, "no commit 'HEAD~7' in /" },
        { NULL, "", ERR_INVALID, "is no name of a commit" },
        { NULL, "--upload-pack=touch /tmp/x", ERR_INVALID, "is no name of a commit" },
        { NULL, "-h", ERR_INVALID, "'-h' is no name of a commit" },
        { NULL, "a\nb", ERR_INVALID, "is no name of a commit" },
        { NULL, "a b", ERR_INVALID, "is no name of a commit" },
        { "/nowhere", "HEAD", ERR_NOT_FOUND, "no directory /nowhere" },
        { "/etc", "HEAD", ERR_NOT_FOUND, "/etc is no git repository" },
        { "", "HEAD", ERR_INVALID, "names no repository" },
        { "--upload-pack=touch x", "HEAD", ERR_INVALID, "names no repository" },
        { "ext::sh -c touch% /tmp/x", "HEAD", ERR_INVALID, "protocol 'ext' is not allowed" },
        { "fd::17", "HEAD", ERR_INVALID, "protocol 'fd' is not allowed" },
        { "http://127.0.0.1:1/x", "HEAD", ERR_INVALID, "protocol 'http' is not allowed" },
        { "git://127.0.0.1/x", "HEAD", ERR_INVALID, "protocol 'git' is not allowed" },
        { "file:///nowhere", "HEAD", ERR_NOT_FOUND, "no directory /nowhere" },
        { "https://127.0.0.1:1/x", "HEAD", ERR_UNREACHABLE, "https://127.0.0.1:1/x: git: " },
    };
    struct fixture *f = *state;

    test_repository_commit(&f->repo);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        char sha[GIT_SHA_HEX];
        const char *repo = cases[i].repo == NULL ? f->repo.path : cases[i].repo;

        if (git_resolve(repo, cases[i].ref, sha, &err) != -(int)cases[i].code ||
            strstr(err.text, cases[i].says) == NULL)
            fail_msg("%s %s: %s: %s", repo, cases[i].ref, err_name(err.code), err.text);
    }
}

static void finds_the_repository_of_a_file(void **state)
{
    struct fixture *f = *state;
    AUTO_FREE char *file = mem_printf("%s/a/b/c.lua", f->repo.path);
    AUTO_BUF root = BUF_INIT;
    AUTO_BUF none = BUF_INIT;

    tmpdir_write(file, "", 0);
    assert_ok(git_repository_of(file, &root, &f->err), &f->err);
    assert_string_equal(root.data, f->repo.path);
    assert_error(git_repository_of("/etc/passwd", &none, &f->err), ERR_NOT_FOUND, &f->err,
                 "lies in no git repository");
    assert_true(git_repository_of("/nowhere", &none, &f->err) < 0);
}

static void checks_out(void **state)
{
    struct fixture *f = *state;
    AUTO_FREE char *exe = mem_printf("%s/run", f->repo.path), *link = NULL, *made = NULL;
    char target[16] = "";
    const char *folder;
    struct stat st;

    test_repository_add(&f->repo, "a/b.txt", "one\n");
    test_repository_add(&f->repo, "run", "#!/bin/sh\n");
    assert_int_equal(chmod(exe, 0755), 0);
    link = mem_printf("%s/link", f->repo.path);
    assert_int_equal(symlink("a/b.txt", link), 0);
    test_repository_commit(&f->repo);
    folder = check_out(f);
    expect_file(folder, "a/b.txt", "one\n");
    expect_file(folder, ".git/config", NULL);
    made = mem_printf("%s/src/run", folder);
    assert_int_equal(stat(made, &st), 0);
    assert_true((st.st_mode & 0100) != 0);
    free(made);
    made = mem_printf("%s/src/link", folder);
    assert_int_equal(readlink(made, target, sizeof(target) - 1), 7);
    assert_string_equal(target, "a/b.txt");
}

/* A commit that is there is not fetched again. */
static void fetches_only_what_is_missing(void **state)
{
    struct fixture *f = *state;
    const char *folder;
    char first[41];

    test_repository_add(&f->repo, "x", "1");
    test_repository_commit(&f->repo);
    snprintf(first, sizeof(first), "%s", f->repo.sha);
    expect_file(check_out(f), "x", "1");
    assert_non_null(strstr(f->log.data, "fetching"));
    test_repository_add(&f->repo, "x", "2");
    test_repository_commit(&f->repo);
    expect_file(check_out(f), "x", "2");
    buf_reset(&f->log);
    snprintf(f->repo.sha, sizeof(f->repo.sha), "%s", first);
    folder = check_out(f);
    expect_file(folder, "x", "1");
    assert_string_equal(buf_str(&f->log), "");
}

static int find_mirror(void *ctx, const char *name, struct err *err)
{
    (void)err;
    if (strchr(name, '.') == NULL)
        snprintf(ctx, 64, "%s", name);
    return 0;
}

/* As a git that was killed leaves it, or worse. */
static void spoiled_mirrors_are_made_anew(void **state)
{
    static const char *const spoilers[] = { "shallow.lock", "config.lock", "HEAD" };
    struct fixture *f = *state;
    AUTO_FREE char *refs = NULL;
    char name[64] = "";

    for (size_t i = 0; i < COUNT_OF(spoilers); i++) {
        AUTO_FREE char *text = mem_printf("%zu", i), *spoiled = NULL;

        test_repository_add(&f->repo, "x", text);
        test_repository_commit(&f->repo);
        expect_file(check_out(f), "x", text);
        assert_ok(dir_each(f->place.mirrors, find_mirror, name, &f->err), &f->err);
        spoiled = mem_printf("%s/%s/%s", f->place.mirrors, name, spoilers[i]);
        tmpdir_write(spoiled, "junk", 4);
        test_repository_commit(&f->repo);
        expect_file(check_out(f), "x", text);
    }
    refs = TEST_GIT(&f->around, "for-each-ref");
    assert_string_equal(refs, "");
}

static void unknown_commits(void **state)
{
    struct fixture *f = *state;
    const char *folder = make_folder();

    test_repository_commit(&f->repo);
    assert_error(git_checkout(&f->place, f->repo.path, "0123456789012345678901234567890123456789",
                              folder, &f->err),
                 ERR_NOT_FOUND, &f->err, "checkout: no commit '0123456789");
    assert_error(git_checkout(&f->place, "/nowhere", f->repo.sha, folder, &f->err), ERR_NOT_FOUND,
                 &f->err, "checkout: no directory /nowhere");
    assert_error(git_checkout(&f->place, "https://127.0.0.1:1/x", f->repo.sha, folder, &f->err),
                 ERR_UNREACHABLE, &f->err, "checkout: git: ");
}

/* Nothing of a repository is executed: hooks, smudge filters, monitors, commands of its
 * configuration. Each would make the file `harm`. */
static void nothing_is_executed(void **state)
{
    static const char *const hooks[] = {
        "post-checkout",         "post-merge",        "pre-commit", "update",
        "reference-transaction", "post-index-change", "pre-auto-gc"
    };
    struct fixture *f = *state;
    const char *harm = tmpdir_path("harm-%d", (int)getpid());
    AUTO_FREE char *script = mem_printf("#!/bin/sh\ntouch %s\n", harm);
    AUTO_FREE char *command = mem_printf("touch %s", harm);
    char sha[GIT_SHA_HEX];
    const char *folder;

    test_repository_add(&f->repo, "x", "1");
    test_repository_add(&f->repo, ".gitattributes", "* filter=evil\n");
    test_repository_add(&f->repo, ".gitmodules",
                        "[submodule \"a\"]\n\tpath = a\n\turl = https://127.0.0.1:1/\n");
    test_repository_commit(&f->repo);
    for (size_t i = 0; i < COUNT_OF(hooks); i++) {
        AUTO_FREE char *name = mem_printf(".git/hooks/%s", hooks[i]);
        AUTO_FREE char *path = mem_printf("%s/%s", f->repo.path, name);

        test_repository_add(&f->repo, name, script);
        assert_int_equal(chmod(path, 0755), 0);
    }
    free(TEST_GIT(&f->repo, "config", "core.fsmonitor", command));
    free(TEST_GIT(&f->repo, "config", "core.sshCommand", command));
    free(TEST_GIT(&f->repo, "config", "core.pager", command));
    free(TEST_GIT(&f->repo, "config", "filter.evil.smudge", command));
    free(TEST_GIT(&f->repo, "config", "uploadpack.packObjectsHook", command));
    free(TEST_GIT(&f->repo, "config", "core.alternateRefsCommand", command));
    assert_ok(git_resolve(f->repo.path, "HEAD", sha, &f->err), &f->err);
    folder = check_out(f);
    expect_file(folder, "x", "1");
    assert_false(path_exists(harm));
    assert_non_null(strstr(f->log.data, "submodules; they are not fetched"));
}

/* Objects that are made to harm other git programs are refused as they come in. */
static void hostile_objects(void **state)
{
    struct fixture *f = *state;

    test_repository_add(&f->repo, ".gitmodules",
                        "[submodule \"a\"]\n\tpath = a\n\turl = --upload-pack=touch\n");
    test_repository_commit(&f->repo);
    assert_error(git_checkout(&f->place, f->repo.path, f->repo.sha, make_folder(), &f->err),
                 ERR_INVALID, &f->err, "disallowed submodule url");
}

/* A tree that holds a link "away" and files behind it, as no honest git makes one. */
static void links_do_not_lead_out(void **state)
{
    struct fixture *f = *state;
    const char *outside = tmpdir_fresh(), *folder = make_folder();
    AUTO_FREE char *link = mem_printf("%s/away", f->repo.path);
    AUTO_FREE char *victim = mem_printf("%s/victim", outside);
    AUTO_FREE char *blob = NULL, *away = NULL, *sub = NULL, *lines = NULL, *tree = NULL;
    AUTO_FREE char *commit = NULL, *file = mem_printf("%s/lines", outside);

    assert_int_equal(symlink(outside, link), 0);
    test_repository_add(&f->repo, "sub/victim", "harm");
    test_repository_commit(&f->repo);
    away = TEST_GIT(&f->repo, "rev-parse", "HEAD:away");
    sub = TEST_GIT(&f->repo, "rev-parse", "HEAD:sub");
    lines = mem_printf("!git mktree < %s", file);
    blob = mem_printf("120000 blob %s\taway\n040000 tree %s\taway\n", away, sub);
    tmpdir_write(file, blob, strlen(blob));
    free(TEST_GIT(&f->repo, "config", "alias.evil", lines));
    tree = TEST_GIT(&f->repo, "evil");
    commit = TEST_GIT(&f->repo, "commit-tree", "-m", "x", tree);
    assert_true(git_checkout(&f->place, f->repo.path, commit, folder, &f->err) < 0);
    assert_false(path_exists(victim));
}

/* Root may build from the clone of a user, and a user from one that root owns. */
static void foreign_owners(void **state)
{
    struct fixture *f = *state;
    AUTO_FREE char *owner = NULL;
    char sha[GIT_SHA_HEX];

    if (getuid() != 0)
        skip();
    test_repository_add(&f->repo, "x", "1");
    test_repository_commit(&f->repo);
    owner = mem_printf("%s/.git", f->repo.path);
    assert_int_equal(chown(f->repo.path, 12345, 12345), 0);
    assert_int_equal(chown(owner, 12345, 12345), 0);
    assert_ok(git_resolve(f->repo.path, "HEAD", sha, &f->err), &f->err);
    assert_string_equal(sha, f->repo.sha);
    expect_file(check_out(f), "x", "1");
}

static void bare_repositories(void **state)
{
    struct fixture *f = *state;
    AUTO_FREE char *bare = mem_printf("%s.bare", f->repo.path);
    const char *folder = make_folder();
    char sha[GIT_SHA_HEX];

    test_repository_add(&f->repo, "x", "1");
    test_repository_commit(&f->repo);
    free(TEST_GIT(&f->repo, "clone", "--quiet", "--bare", ".", bare));
    assert_ok(git_resolve(bare, "main", sha, &f->err), &f->err);
    assert_ok(git_checkout(&f->place, bare, sha, folder, &f->err), &f->err);
    expect_file(folder, "x", "1");
}

/* A partial clone names a command that git would run to fetch an object that is not there. */
static void nothing_is_fetched_to_resolve(void **state)
{
    struct fixture *f = *state;
    const char *harm = tmpdir_path("lazy-harm-%d", (int)getpid());
    AUTO_FREE char *command = mem_printf("touch %s; false", harm);
    char sha[GIT_SHA_HEX];

    test_repository_commit(&f->repo);
    free(TEST_GIT(&f->repo, "config", "core.repositoryformatversion", "1"));
    free(TEST_GIT(&f->repo, "config", "extensions.partialClone", "origin"));
    free(TEST_GIT(&f->repo, "config", "remote.origin.url", f->repo.path));
    free(TEST_GIT(&f->repo, "config", "remote.origin.promisor", "true"));
    free(TEST_GIT(&f->repo, "config", "remote.origin.uploadpack", command));
    assert_error(
        git_resolve(f->repo.path, "0123456789012345678901234567890123456789", sha, &f->err),
        ERR_NOT_FOUND, &f->err, "no commit '0123456789");
    assert_false(path_exists(harm));
}

static void nothing_is_committed(void **state)
{
    struct fixture *f = *state;
    const char *empty = tmpdir_fresh();
    char sha[GIT_SHA_HEX];

    free(TEST_GIT(&f->repo, "init", "--quiet", empty));
    assert_error(git_resolve(empty, "HEAD", sha, &f->err), ERR_NOT_FOUND, &f->err,
                 "nothing is committed in /");
}

static void tells_changes(void **state)
{
    struct fixture *f = *state;
    AUTO_FREE char *file = mem_printf("%s/x", f->repo.path), *other = NULL;

    test_repository_add(&f->repo, "x", "1");
    test_repository_commit(&f->repo);
    other = mem_printf("%s/untracked", f->repo.path);
    tmpdir_write(other, "1", 1);
    assert_false(git_has_changes(f->repo.path));
    tmpdir_write(file, "22", 2);
    assert_true(git_has_changes(f->repo.path));
    assert_false(git_has_changes("/nowhere"));
    assert_false(git_has_changes("https://127.0.0.1:1/x"));
}

/* A worktree and a shared clone keep their objects in another repository of the same owner. */
static void borrowed_objects(void **state)
{
    static const char *const names[] = { "worktree", "shared" };
    struct fixture *f = *state;
    char sha[GIT_SHA_HEX];

    test_repository_add(&f->repo, "x", "1");
    test_repository_commit(&f->repo);
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        AUTO_FREE char *path = mem_printf("%s.%s", f->repo.path, names[i]);
        const char *folder = make_folder();

        if (i == 0)
            free(TEST_GIT(&f->repo, "worktree", "add", "--quiet", path));
        else
            free(TEST_GIT(&f->repo, "clone", "--quiet", "--shared", ".", path));
        assert_ok(git_resolve(path, "HEAD", sha, &f->err), &f->err);
        assert_ok(git_checkout(&f->place, path, sha, folder, &f->err), &f->err);
        expect_file(folder, "x", "1");
    }
}

static void without_a_sandbox(void **state)
{
    struct fixture *f = *state;
    const char *folder;

    f->sandbox.kind = SANDBOX_OFF;
    test_repository_add(&f->repo, "x", "1");
    test_repository_commit(&f->repo);
    folder = check_out(f);
    expect_file(folder, "x", "1");
    expect_file(folder, ".git", NULL);
}

#define WITH_REPO(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_REPO(resolves_names),
        WITH_REPO(refuses_names),
        WITH_REPO(finds_the_repository_of_a_file),
        WITH_REPO(checks_out),
        WITH_REPO(fetches_only_what_is_missing),
        WITH_REPO(spoiled_mirrors_are_made_anew),
        WITH_REPO(unknown_commits),
        WITH_REPO(nothing_is_executed),
        WITH_REPO(hostile_objects),
        WITH_REPO(links_do_not_lead_out),
        WITH_REPO(foreign_owners),
        WITH_REPO(bare_repositories),
        WITH_REPO(nothing_is_fetched_to_resolve),
        WITH_REPO(nothing_is_committed),
        WITH_REPO(tells_changes),
        WITH_REPO(borrowed_objects),
        WITH_REPO(without_a_sandbox),
    };

    return cmocka_run_group_tests_name("git", tests, NULL, NULL);
}
