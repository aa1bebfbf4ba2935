#include "lib/database.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"

static void die(const char *what, const struct err *err)
{
    fprintf(stderr, "test database: %s: %s\n", what, err->text);
    exit(1);
}

static void make_schema(struct test_database *t, const char *server)
{
    struct err err = ERR_INIT;
    struct db *d;
    AUTO_FREE char *sql = NULL;

    t->schema = mem_printf("test_%ld_%p", (long)getpid(), (void *)t);
    sql = mem_printf("CREATE SCHEMA %s", t->schema);
    if (db_open(&d, server, &err) < 0 || DB_EXEC(d, &err, sql) < 0)
        die(server, &err);
    db_close(d);
    t->url = mem_printf("%s%coptions=-csearch_path%%3D%s", server,
                        strchr(server, '?') == NULL ? '?' : '&', t->schema);
}

bool test_database_init(struct test_database *t, enum test_backend backend)
{
    const char *server = getenv("ENGINE_TEST_PG");

    memset(t, 0, sizeof(*t));
    if (backend == TEST_POSTGRES) {
        if (server == NULL || server[0] == '\0')
            return false;
        make_schema(t, server);
        return true;
    }
    t->folder = mem_strdup("/tmp/slipway-test-XXXXXX");
    if (mkdtemp(t->folder) == NULL) {
        perror("mkdtemp");
        exit(1);
    }
    t->url = mem_printf("sqlite:%s/test.db", t->folder);
    return true;
}

void test_database_release(struct test_database *t)
{
    static const char *const files[] = { "test.db", "test.db-wal", "test.db-shm" };
    struct err err = ERR_INIT;
    struct db *d;

    for (size_t i = 0; i < COUNT_OF(files) && t->folder != NULL; i++) {
        AUTO_FREE char *path = mem_printf("%s/%s", t->folder, files[i]);

        unlink(path);
    }
    if (t->folder != NULL)
        rmdir(t->folder);
    if (t->schema != NULL) {
        AUTO_FREE char *sql = mem_printf("DROP SCHEMA %s CASCADE", t->schema);

        if (db_open(&d, getenv("ENGINE_TEST_PG"), &err) < 0 || DB_EXEC(d, &err, sql) < 0)
            die("drop", &err);
        db_close(d);
    }
    free(t->url);
    free(t->folder);
    free(t->schema);
}

struct db *test_database_open(const struct test_database *t)
{
    struct err err = ERR_INIT;
    struct db *d;

    if (db_open(&d, t->url, &err) < 0)
        die(t->url, &err);
    return d;
}
