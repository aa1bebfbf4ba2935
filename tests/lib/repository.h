/* repository.h - a git repository for a test, made by git itself. A failure ends the program.
 *
 *     struct test_repository repo;
 *     test_repository_init(&repo);
 *     tmpdir_write(...); or: test_repository_add(&repo, "build.sh", "echo hi\n");
 *     test_repository_commit(&repo);       -> repo.sha
 */
#ifndef TESTS_LIB_REPOSITORY_H
#define TESTS_LIB_REPOSITORY_H

struct test_repository {
    const char *path; /* as long as tmpdir.h's paths */
    char sha[41];     /* of the last commit */
};

void test_repository_init(struct test_repository *r);
void test_repository_add(struct test_repository *r, const char *name, const char *text);
void test_repository_commit(struct test_repository *r);

/* Runs git in the repository; gives its output without the last newline. */
char *test_git(const struct test_repository *r, const char *const *args);
#define TEST_GIT(r, ...) test_git((r), (const char *const[]){ __VA_ARGS__, 0 })

#endif
