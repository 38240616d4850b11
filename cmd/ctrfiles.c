#include "cmd/ctrfiles.h"

int ctrfiles_find(const char *name, struct record *r, struct err *e)
{
    int rc = record_find(NULL, name, RECORD_LOOK, r, e);

    if (rc < 0 || r->state.status == RECORD_RUNNING || r->state.status == RECORD_PAUSED)
        return rc;
    record_done(r);
    rc = record_find(NULL, name, RECORD_CHANGE, r, e);
    if (rc == 0 && record_alive(r)) /* it was started in between */
        record_unlock(r);
    return rc;
}
