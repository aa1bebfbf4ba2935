/* Resuming TLS sessions. The accepting side keeps nothing: its tickets carry the session, with the certificate of
 * the other side, under keys that live as long as the identity. The connecting side keeps the last ticket of each
 * place that it was connected to. A ticket is worth a signature and no more: who is behind it is judged as if the
 * handshake had been a full one (link_secured() in link.c). */
#include <stdlib.h>

#include "base/mem.h"
#include "io/link_private.h"

enum { SESSION_LIFE_S = 3600 };

/* A ticket has come. 1: we keep it. */
static int on_new_session(SSL *ssl, SSL_SESSION *session)
{
    struct link *l = SSL_get_app_data(ssl);
    struct map *sessions;

    if (l == NULL || l->session_key == NULL)
        return 0;
    sessions = &l->self->sessions;
    if (sessions->count >= LINK_SESSIONS_MAX && map_get(sessions, l->session_key) == NULL)
        return 0;
    SSL_SESSION_free(map_put(sessions, l->session_key, session));
    return 1;
}

void link_session_setup(SSL_CTX *tls)
{
    static const unsigned char context[] = "slipway";

    SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_set_session_id_context(tls, context, sizeof(context) - 1);
    SSL_CTX_set_timeout(tls, SESSION_LIFE_S);
    SSL_CTX_sess_set_new_cb(tls, on_new_session);
}

void link_session_offer(struct link *l)
{
    SSL_SESSION *session;

    SSL_set_app_data(l->ssl, l);
    if (l->accepted)
        return;
    free(l->session_key);
    l->session_key = mem_printf("%s %d %d %s", l->host, l->port, (int)l->expect_role,
                                l->expect_id == NULL ? "" : l->expect_id);
    session = map_get(&l->self->sessions, l->session_key);
    if (session != NULL && SSL_SESSION_is_resumable(session) == 1)
        (void)SSL_set_session(l->ssl,
                              session); /* if it does not fit, the handshake is a full one */
}

void link_session_drop(struct link *l)
{
    if (l->session_key != NULL)
        SSL_SESSION_free(map_remove(&l->self->sessions, l->session_key));
}

void link_session_refuse(struct link *l)
{
    link_session_drop(l);
    free(l->session_key);
    l->session_key = NULL;
}

void link_sessions_release(struct link_identity *i)
{
    struct map_entry *e;

    for (size_t at = 0; (e = map_next(&i->sessions, &at)) != NULL;)
        SSL_SESSION_free(e->value);
    map_release(&i->sessions);
}
