#include "lib/repository.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "build/argv.h"
#include "io/proc.h"
#include "lib/tmpdir.h"

char *test_git(const struct test_repository *r, const char *const *args)
{
    static const char *const env[] = {
        "PATH=/usr/local/bin:/usr/bin:/bin",
        "HOME=/nonexistent",
        "GIT_CONFIG_NOSYSTEM=1",
        "GIT_AUTHOR_NAME=t",
        "GIT_AUTHOR_EMAIL=t@example.com",
        "GIT_COMMITTER_NAME=t",
        "GIT_COMMITTER_EMAIL=t@example.com",
        NULL,
    };
    AUTO_ARGV argv = ARGV_INIT;
    AUTO_ARGV vars = ARGV_INIT;
    struct err err = ERR_INIT;
    struct buf out = BUF_INIT;
    struct proc_options o = { .dir = r->path, .stdin_fd = -1, .keep_fd = -1 };
    int status = 0;

    argv_add(&argv, "git");
    for (; *args != NULL; args++)
        argv_add(&argv, *args);
    for (size_t i = 0; env[i] != NULL; i++)
        argv_add(&vars, env[i]);
    o.argv = argv.items;
    o.env = vars.items;
    if (proc_run(&o, 60000, 1 << 20, &out, &status, &err) < 0 || status != 0) {
        fprintf(stderr, "git %s: %s %s\n", argv.items[1], err.text, buf_str(&out));
        exit(1);
    }
    while (out.len > 0 && out.data[out.len - 1] == '\n')
        out.data[--out.len] = '\0';
    return buf_steal(&out);
}

void test_repository_init(struct test_repository *r)
{
    r->path = tmpdir_fresh();
    r->sha[0] = '\0';
    free(TEST_GIT(r, "init", "--quiet", "--initial-branch=main"));
}

void test_repository_add(struct test_repository *r, const char *name, const char *text)
{
    AUTO_FREE char *path = mem_printf("%s/%s", r->path, name);

    tmpdir_write(path, text, strlen(text));
}

void test_repository_commit(struct test_repository *r)
{
    AUTO_FREE char *sha = NULL;

    free(TEST_GIT(r, "add", "--all", "--force"));
    free(TEST_GIT(r, "commit", "--quiet", "--allow-empty", "--message=x"));
    sha = TEST_GIT(r, "rev-parse", "HEAD");
    snprintf(r->sha, sizeof(r->sha), "%s", sha);
}
