#include "world.h"

#include "region/docs.h"

struct kit {
    struct world w; /* for its keys and texts: no node runs */
    struct docs *d;
};

static void kit_init(struct kit *k)
{
    struct public_key pin;

    memset(&k->w, 0, sizeof(k->w));
    memset(k->w.root.seed, 1, KEY_BYTES);
    memset(k->w.release_key.seed, 2, KEY_BYTES);
    memset(k->w.goal_key.seed, 3, KEY_BYTES);
    pin = key_public(&k->w.root);
    k->d = docs_new("r1", &pin);
}

static int accept(struct kit *k, enum doc_kind kind, const struct buf *doc, bool *ret_changed,
                  struct err *err)
{
    struct msg_doc msg = { (uint8_t)kind, { (unsigned char *)doc->data, doc->len } };
    struct docs_change change;
    int r = docs_accept(k->d, &msg, true, &change, err);

    if (ret_changed != NULL)
        *ret_changed = change.changed;
    return r;
}

static int unsaved(struct kit *k, struct buf *names)
{
    struct bytes bytes;
    char *name;
    int n = 0;

    while (docs_unsaved(k->d, &name, &bytes)) {
        buf_printf(names, "%s%s ", bytes.data == NULL ? "-" : "+", name);
        free(name);
        free(bytes.data);
        n++;
    }
    return n;
}

static void trust_comes_first_and_only_rises(void **state)
{
    struct kit k;
    AUTO_BUF v1 = BUF_INIT;
    AUTO_BUF v2 = BUF_INIT;
    AUTO_BUF other = BUF_INIT;
    AUTO_BUF release = BUF_INIT;
    struct published what = { .stream_bytes = 1 };
    struct secret_key root;
    struct err err = ERR_INIT;
    bool changed = false;

    (void)state;
    kit_init(&k);
    release_doc(&k.w, "web", &what, &release);
    assert_error(accept(&k, DOC_RELEASE, &release, NULL, &err), ERR_DENIED, &err, "before");
    root = k.w.root;
    memset(k.w.root.seed, 9, KEY_BYTES);
    trust_doc(&k.w, 1, "", &other); /* by another root */
    k.w.root = root;
    assert_error(accept(&k, DOC_TRUST, &other, NULL, &err), ERR_DENIED, &err, "");
    trust_doc(&k.w, 1, "", &v1);
    trust_doc(&k.w, 2, "\"m7\"", &v2);
    assert_ok(accept(&k, DOC_TRUST, &v1, &changed, &err), &err);
    assert_true(changed);
    assert_ok(accept(&k, DOC_TRUST, &v1, &changed, &err), &err);
    assert_false(changed);
    assert_false(docs_is_denied(k.d, "m7"));
    assert_ok(accept(&k, DOC_TRUST, &v2, NULL, &err), &err);
    assert_true(docs_is_denied(k.d, "m7"));
    assert_error(accept(&k, DOC_TRUST, &v1, NULL, &err), ERR_DENIED, &err, "older");
    assert_error(accept(&k, (enum doc_kind)9, &v1, NULL, &err), ERR_INVALID, &err, "unknown kind");
    docs_free(k.d);
}

static void goals_rise_and_releases_go_with_them(void **state)
{
    struct kit k;
    AUTO_BUF doc = BUF_INIT;
    AUTO_BUF other = BUF_INIT;
    AUTO_BUF names = BUF_INIT;
    struct published a = { .stream_bytes = 1 }, b = { .stream_bytes = 2 };
    struct hash ra, rb;
    struct goal_text g = { .service = "web", .deployment = "d-1", .generation = 5 };
    struct err err = ERR_INIT;
    bool changed = true;

    (void)state;
    kit_init(&k);
    trust_doc(&k.w, 1, "", &doc);
    assert_ok(accept(&k, DOC_TRUST, &doc, NULL, &err), &err);
    ra = release_doc(&k.w, "web", &a, &doc);
    assert_ok(accept(&k, DOC_RELEASE, &doc, NULL, &err), &err);
    assert_ok(accept(&k, DOC_RELEASE, &doc, &changed, &err), &err);
    assert_false(changed);
    g.release = &ra;
    goal_doc(&k.w, &g, &doc);
    assert_ok(accept(&k, DOC_GOAL, &doc, &changed, &err), &err);
    assert_true(changed);
    assert_ok(accept(&k, DOC_GOAL, &doc, &changed, &err), &err);
    assert_false(changed);
    assert_int_equal(unsaved(&k, &names), 3);
    g.max_moving = 3;
    goal_doc(&k.w, &g, &other);
    assert_error(accept(&k, DOC_GOAL, &other, NULL, &err), ERR_CONFLICT, &err, "another one");
    g.generation = 4;
    goal_doc(&k.w, &g, &other);
    assert_error(accept(&k, DOC_GOAL, &other, NULL, &err), ERR_FENCED, &err, "older than 5");
    g.generation = 6;
    g.region = "r2";
    goal_doc(&k.w, &g, &other);
    assert_error(accept(&k, DOC_GOAL, &other, NULL, &err), ERR_DENIED, &err, "region r2");
    g.region = NULL;

    /* The next goal names another release, with the first to go back to; the one after it not. */
    rb = release_doc(&k.w, "web", &b, &doc);
    assert_ok(accept(&k, DOC_RELEASE, &doc, NULL, &err), &err);
    g.release = &rb;
    g.rollback_to = &ra;
    goal_doc(&k.w, &g, &doc);
    assert_ok(accept(&k, DOC_GOAL, &doc, NULL, &err), &err);
    assert_non_null(docs_release(k.d, &ra));
    g.rollback_to = NULL;
    g.generation = 7;
    goal_doc(&k.w, &g, &doc);
    assert_ok(accept(&k, DOC_GOAL, &doc, NULL, &err), &err);
    assert_null(docs_release(k.d, &ra));
    assert_non_null(docs_release(k.d, &rb));
    assert_int_equal(docs_goal(k.d, "web")->goal->generation, 7);
    assert_null(docs_goal(k.d, "api"));
    buf_reset(&names);
    assert_int_equal(unsaved(&k, &names), 3); /* the two goals of one name are saved once */
    assert_non_null(strstr(names.data, "-releases/"));
    assert_non_null(strstr(names.data, "+releases/"));
    assert_non_null(strstr(names.data, "+goals/web.doc"));
    docs_free(k.d);
}

static void a_deny_list_takes_back_what_was_accepted(void **state)
{
    struct kit k;
    AUTO_BUF doc = BUF_INIT;
    AUTO_BUF deny = BUF_INIT;
    struct published a = { .stream_bytes = 1 };
    struct goal_text g = { .service = "web", .deployment = "d-1", .generation = 5 };
    struct public_key goal_key;
    struct hash release;
    struct err err = ERR_INIT;
    char hex[HASH_HEX], id[KEY_ID_HEX];

    (void)state;
    kit_init(&k);
    trust_doc(&k.w, 1, "", &doc);
    assert_ok(accept(&k, DOC_TRUST, &doc, NULL, &err), &err);
    release = release_doc(&k.w, "web", &a, &doc);
    assert_ok(accept(&k, DOC_RELEASE, &doc, NULL, &err), &err);
    g.release = &release;
    goal_doc(&k.w, &g, &doc);
    assert_ok(accept(&k, DOC_GOAL, &doc, NULL, &err), &err);
    buf_printf(&deny, "\"%s\"", hash_hex(&release, hex));
    trust_doc(&k.w, 2, deny.data, &doc);
    assert_ok(accept(&k, DOC_TRUST, &doc, NULL, &err), &err);
    assert_null(docs_release(k.d, &release));
    assert_non_null(docs_goal(k.d, "web"));
    goal_key = key_public(&k.w.goal_key);
    key_id(&goal_key, id);
    buf_reset(&deny);
    buf_printf(&deny, "\"%s\"", id);
    trust_doc(&k.w, 3, deny.data, &doc);
    assert_ok(accept(&k, DOC_TRUST, &doc, NULL, &err), &err);
    assert_null(docs_goal(k.d, "web"));
    docs_free(k.d); /* with changes that were not taken */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trust_comes_first_and_only_rises),
        cmocka_unit_test(goals_rise_and_releases_go_with_them),
        cmocka_unit_test(a_deny_list_takes_back_what_was_accepted),
    };

    return cmocka_run_group_tests_name("docs", tests, NULL, NULL);
}
