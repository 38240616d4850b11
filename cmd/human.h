/* cmd/human.h - sizes, times and ids as people read them, in docker's words. */
#ifndef CMD_HUMAN_H
#define CMD_HUMAN_H

#include <stdint.h>

enum { HUMAN_MAX = 48, HUMAN_ID = 12 };

/* "1.24MB": four digits, powers of 1000. */
const char *human_size(uint64_t bytes, char out[HUMAN_MAX]);
/* "512MiB": powers of 1024, for memory. */
const char *human_mem(uint64_t bytes, char out[HUMAN_MAX]);
/* "3 minutes", "About an hour", "2 weeks". */
const char *human_duration(int64_t ns, char out[HUMAN_MAX]);
/* "3 minutes ago"; when in ns since 1970. */
const char *human_ago(int64_t when_ns, int64_t now_ns, char out[HUMAN_MAX]);
/* "2026-11-21 16:40:11 +0000 UTC" as docker's CreatedAt. */
const char *human_time(int64_t when_ns, char out[HUMAN_MAX]);
/* Behind "sha256:", if that is in front, and no more than HUMAN_ID digits of it. */
const char *human_id(const char *id, char out[HUMAN_MAX]);
int64_t human_now_ns(void); /* since 1970 */

#endif
