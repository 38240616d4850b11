#include "cmd/specflags.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cmd/flags.h"
#include "image/store.h"
#include "test/unit/t.h"

static char text[1024], *words[64];

/* A line whose words have single spaces between them. */
static int parse_as(const char *verb, const char *line, struct spec *s, struct run_options *o,
                    struct err *e)
{
    char *rest = text;
    int n = 0;

    snprintf(text, sizeof(text), "%s %s", verb, line);
    while (rest && n < 63)
        words[n++] = strsep(&rest, " ");
    words[n] = NULL;
    spec_init(s);
    return specflags_parse(n, words, s, o, e);
}

static void good(const char *line, struct spec *s)
{
    struct run_options o;
    struct err e = {0};

    if (parse_as("run", line, s, &o, &e) != 1)
        fail_msg("%s: %s", line, e.msg);
}

static void bad(const char *line, const char *sentence)
{
    struct spec s;
    struct run_options o;
    struct err e = {0};

    if (parse_as("run", line, &s, &o, &e) >= 0)
        fail_msg("%s: was taken", line);
    assert_string_equal(e.msg, sentence);
    spec_done(&s);
}

static void ports_are_read_as_docker_reads_them(void **state)
{
    struct spec s;

    good("-p 8080:80 -p 127.0.0.1:53:53/udp -p 127.0.0.1::443 -p [::1]:81:81 -p 22 x", &s);
    assert_int_equal(s.n_ports, 5);
    assert_int_equal(s.ports[0].host_port, 8080);
    assert_int_equal(s.ports[0].ctr_port, 80);
    assert_null(s.ports[0].host_ip);
    assert_true(s.ports[1].udp);
    assert_string_equal(s.ports[1].host_ip, "127.0.0.1");
    assert_int_equal(s.ports[2].host_port, 0);
    assert_string_equal(s.ports[3].host_ip, "::1");
    assert_int_equal(s.ports[4].ctr_port, 22);
    assert_int_equal(s.ports[4].host_port, 0);
    spec_done(&s);
    good("-p 8000-8002:80-82/tcp --publish=9000-9001 x", &s);
    assert_int_equal(s.n_ports, 5);
    assert_int_equal(s.ports[2].host_port, 8002);
    assert_int_equal(s.ports[2].ctr_port, 82);
    assert_int_equal(s.ports[4].ctr_port, 9001);
    spec_done(&s);
}

static void a_port_that_is_none_is_refused(void **state)
{
    bad("-p 70000:80 x", "-p, --publish: '70000:80': '70000' is not a port or a range of ports");
    bad("-p 80:0 x", "-p, --publish: '80:0': port 0 of the container is none");
    bad("-p 80-82:80-81 x", "-p, --publish: '80-82:80-81': the ranges differ in length");
    bad("-p 82-80:80 x", "-p, --publish: '82-80:80': the range '82-80' ends before it begins");
    bad("-p 1.2.3:80:80 x", "-p, --publish: '1.2.3:80:80': '1.2.3' is not an IP address");
    bad("-p 80/sctp x", "-p, --publish: '80/sctp': protocol 'sctp' is neither tcp nor udp");
    bad("-p 80:81 -p 80:82 x", "-p, --publish: '80:82': port 80 of the host is given twice");
    bad("-p [::1:80 x", "-p, --publish: '[::1:80': the bracket of '[::1:80' is not closed");
    bad("-p : x", "-p, --publish: ':': '' is not a port or a range of ports");
}

static void mounts_are_read_as_docker_reads_them(void **state)
{
    struct spec s;

    good("-v /host:/guest:ro -v data:/data/ -v /anonymous --tmpfs /run:size=1m "
         "--mount type=bind,src=/a,\"dst=/b,c\",readonly,bind-propagation=rslave "
         "--mount type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1777 --mount dst=/v,source=vol x",
         &s);
    assert_int_equal(s.n_mounts, 7);
    assert_int_equal(s.mounts[0].kind, SPEC_BIND);
    assert_true(s.mounts[0].read_only && s.mounts[0].create);
    assert_string_equal(s.mounts[0].source, "/host");
    assert_int_equal(s.mounts[1].kind, SPEC_VOLUME);
    assert_string_equal(s.mounts[1].source, "data");
    assert_string_equal(s.mounts[1].target, "/data");
    assert_null(s.mounts[2].source);
    assert_string_equal(s.mounts[2].target, "/anonymous");
    assert_int_equal(s.mounts[3].kind, SPEC_TMPFS);
    assert_string_equal(s.mounts[3].options, "size=1m");
    assert_string_equal(s.mounts[4].target, "/b,c");
    assert_string_equal(s.mounts[4].propagation, "rslave");
    assert_true(s.mounts[4].read_only && !s.mounts[4].create);
    assert_string_equal(s.mounts[5].options, "size=1048576,mode=1777");
    assert_int_equal(s.mounts[6].kind, SPEC_VOLUME);
    spec_done(&s);
}

static void a_relative_source_is_of_this_folder(void **state)
{
    CLEANUP(mem) char *here = getcwd(NULL, 0);
    char whole[4200];
    struct spec s;

    good("-v ./sub:/x -v .:/y z", &s);
    snprintf(whole, sizeof(whole), "%s/sub", here);
    assert_string_equal(s.mounts[0].source, whole);
    assert_string_equal(s.mounts[1].source, here);
    spec_done(&s);
}

static void a_mount_that_is_none_is_refused(void **state)
{
    bad("-v a/b:/x y",
        "-v, --volume: 'a/b' is neither a path (it would begin with / or .) nor a volume's name");
    bad("-v /a:b x", "-v, --volume: 'b': the place inside must be an absolute path");
    bad("-v /a:/ x", "-v, --volume: '/' cannot be a mount point");
    bad("-v /a:/b:rx x", "-v, --volume: there is no mount option 'rx'");
    bad("-v /a:/b:ro:z x", "-v, --volume: more than two colons: write [SOURCE:]TARGET[:OPTIONS]");
    bad("-v /a:/b --tmpfs /b/ x", "--tmpfs: duplicate mount point: /b");
    bad("--mount type=bind,dst=/x y", "--mount: type=bind needs source=PATH");
    bad("--mount type=disk,dst=/x y", "--mount: type=disk is none of bind, volume, tmpfs");
    bad("--mount type=tmpfs y", "--mount: target=PATH is missing");
    bad("--mount dst=/x,tmpfs-size=1 y", "--mount: tmpfs-size and tmpfs-mode go with type=tmpfs");
    bad("--mount dst=/x,colour=red y", "--mount: there is no 'colour=red' for a mount");
    bad("--mount \"dst=/x y", "--mount: '\"dst=/x': a quote is out of place");
}

static void limits_are_numbers_with_meaning(void **state)
{
    struct spec s;

    good("-m 1g --memory-swap -1 --cpus 1.5 --pids-limit 0 --ulimit nofile=1024:2048 "
         "--ulimit core=-1 --oom-score-adj=-5 --cpuset-cpus 0-2,5 --shm-size 1m --stop-timeout 3 x",
         &s);
    assert_int_equal(s.memory, 1 << 30);
    assert_int_equal(s.memory_swap, -1);
    assert_int_equal(s.nano_cpus, 1500000000);
    assert_int_equal(s.pids_limit, -1);
    assert_int_equal(s.ulimits.n, 2);
    assert_int_equal(s.oom_score_adj, -5);
    assert_int_equal(s.stop_timeout_s, 3);
    assert_int_equal(s.memory_reservation, SPEC_UNSET);
    spec_done(&s);
    good("--cpus .5 --isolation=process x", &s);
    assert_int_equal(s.nano_cpus, 500000000);
    assert_int_equal(s.isolation, SPEC_PROCESS);
    spec_done(&s);
}

static void limits_out_of_range_are_refused(void **state)
{
    bad("-m 1m x", "--memory: a machine has 32 MiB to 1048576 MiB");
    bad("--isolation process -m 1m x", "--memory: at least 6 MiB");
    bad("--cpus 0 x", "--cpus: '0' is out of range: at least 0.01");
    bad("--cpus 33 x", "--cpus: a machine has at most 32");
    bad("--cpus 1.2.3 x", "--cpus: '1.2.3' is not a number of CPUs, such as 2 or 1.5");
    bad("--cpus 0.1234567890 x", "--cpus: '0.1234567890' is too precise");
    bad("--cpus -1 x", "--cpus: '-1' is not a number of CPUs, such as 2 or 1.5");
    bad("--ulimit files=1 x", "--ulimit: 'files' is not a limit's name");
    bad("--ulimit nofile=9:2 x",
        "--ulimit: 'nofile=9:2': write NAME=SOFT[:HARD], SOFT no more than HARD");
    bad("--cpuset-cpus 3-1 x", "--cpuset-cpus: '3-1' is not a list such as 0-3,5");
    bad("--memory 64m --memory-swap 32m x",
        "--memory-swap is both together: no less than --memory");
    bad("--restart always --rm x", "--restart and --rm do not go together");
    bad("--restart always:3 x", "--restart: 'always:3': only on-failure has a number of tries");
    bad("--stop-signal SIGFOO x", "--stop-signal: invalid signal: SIGFOO");
    bad("--cap-add SYS_ADMI x",
        "--cap-add: there is no capability 'SYS_ADMI'; did you mean SYS_ADMIN?");
    bad("--isolation=pod x", "--isolation: 'pod' is neither vm nor process");
    bad("--isolation=process --engine bt x",
        "--engine is for machines, not for --isolation=process");
}

static void life_is_as_docker_has_it(void **state)
{
    struct spec s;

    good("--restart on-failure:3 --health-cmd true --health-interval 500ms --stop-signal kill "
         "--log-opt max-size=1m --log-opt max-file=3 --log-driver json-file --detach-keys a,ctrl-b "
         "--dns 1.1.1.1 --add-host a:10.0.0.1 --add-host b=[::1] --expose 80-81/udp --label a x",
         &s);
    assert_int_equal(s.restart, SPEC_ON_FAILURE);
    assert_int_equal(s.restart_max, 3);
    assert_string_equal(s.health.cmd.v[0], "CMD-SHELL");
    assert_string_equal(s.health.cmd.v[1], "true");
    assert_int_equal(s.health.interval_ns, 500000000);
    assert_int_equal(s.log_max_size, 1 << 20);
    assert_int_equal(s.log_max_file, 3);
    assert_string_equal(s.log_driver, "file");
    assert_string_equal(s.add_hosts.v[1], "b:::1");
    assert_string_equal(s.exposed.v[1], "81/udp");
    assert_string_equal(s.labels.v[0], "a=");
    spec_done(&s);
    bad("--detach-keys ctrl-pp x",
        "--detach-keys: 'ctrl-pp': write keys with commas between them, such as ctrl-p,ctrl-q");
    bad("--log-driver syslog x", "--log-driver: there is no log driver 'syslog': file, none");
    bad("--mac-address 01:00:00:00:00:01 x",
        "--mac-address: '01:00:00:00:00:01' is not the MAC address of one card");
}

/* A file with these bytes; flags_env_file()'s answer. */
static int read_file(const char *bytes, size_t n, struct strv *env, struct err *e)
{
    char path[] = "/tmp/kiln-envXXXXXX";
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), n);
    close(fd);
    int r = flags_env_file(env, path, e);
    unlink(path);
    return r;
}

static void files_of_variables_are_bounded(void **state)
{
    static const char lines[] = "# comment\n\n A=1\r\nB=2 3\nKILN_NOT_SET\nC=",
                      nul[] = "A=\0B\nC=1\n";
    size_t size = 256 * 1024;
    CLEANUP(mem) char *longest = malloc(size);
    struct strv env = {0};
    struct err e = {0};

    assert_int_equal(read_file(lines, sizeof(lines) - 1, &env, &e), 0);
    assert_int_equal(env.n, 3);
    assert_string_equal(env.v[0], "A=1");
    assert_string_equal(env.v[2], "C=");
    assert_int_equal(read_file(nul, sizeof(nul) - 1, &env, &e), -EINVAL);
    memset(longest, 'x', size);
    assert_int_equal(read_file(longest, size, &env, &e), -EINVAL);
    assert_int_equal(flags_env_file(&env, "/dev/zero", &e), -EINVAL);
    assert_int_equal(flags_env_file(&env, "/no/such/file", &e), -ENOENT);
    strv_done(&env);
}

static void the_image_fills_what_was_not_said(void **state)
{
    char *entry[] = {(char *)"/entry", NULL}, *cmd[] = {(char *)"default", NULL};
    char *env[] = {(char *)"A=1", (char *)"B=2", NULL};
    struct image im = {.digest = "sha256:d", .config_digest = "sha256:c"};
    struct run_options o;
    struct err e = {0};
    struct spec s;

    im.config = (struct image_config){.entrypoint = entry,
                                      .cmd = cmd,
                                      .env = env,
                                      .workdir = (char *)"/work",
                                      .user = (char *)"user"};
    assert_int_equal(parse_as("run", "-e B=3 -w /mine x", &s, &o, &e), 1);
    assert_int_equal(specflags_merge(&s, &o, &im, &e), 0);
    assert_int_equal(s.argv.n, 2);
    assert_string_equal(s.argv.v[1], "default");
    assert_int_equal(s.env.n, 2);
    assert_string_equal(s.env.v[1], "B=3");
    assert_string_equal(s.cwd, "/mine");
    assert_string_equal(s.user, "user");
    assert_string_equal(s.image_id, "sha256:c");
    spec_done(&s);

    char *labels[] = {(char *)"a=1", (char *)"b=2", NULL}, *ports[] = {(char *)"80/tcp", NULL};
    char *volumes[] = {(char *)"/data", (char *)"/mine", NULL};
    char *health[] = {(char *)"CMD", (char *)"check", NULL};
    im.config.labels = (struct strv){labels, 2, 3};
    im.config.exposed = (struct strv){ports, 1, 2};
    im.config.volumes = (struct strv){volumes, 2, 3};
    im.config.health = (struct strv){health, 2, 3};
    im.config.health_interval_ns = 5;
    im.config.health_retries = 7;
    assert_int_equal(
        parse_as("run", "-l b=3 -v vol:/mine --expose 80 --health-retries 2 x", &s, &o, &e), 1);
    assert_int_equal(specflags_merge(&s, &o, &im, &e), 0);
    assert_int_equal(s.labels.n, 2);
    assert_string_equal(s.labels.v[1], "b=3");
    assert_int_equal(s.exposed.n, 1);
    assert_int_equal(s.n_mounts, 2);
    assert_null(s.mounts[1].source);
    assert_string_equal(s.mounts[1].target, "/data");
    assert_string_equal(s.health.cmd.v[1], "check");
    assert_int_equal(s.health.interval_ns, 5);
    assert_int_equal(s.health.retries, 2);
    spec_done(&s);
    assert_int_equal(parse_as("run", "--no-healthcheck x", &s, &o, &e), 1);
    assert_int_equal(specflags_merge(&s, &o, &im, &e), 0);
    assert_string_equal(s.health.cmd.v[0], "NONE");
    assert_int_equal(s.health.cmd.n, 1);
    spec_done(&s);

    assert_int_equal(parse_as("create", "--entrypoint /own x word", &s, &o, &e), 1);
    assert_int_equal(specflags_merge(&s, &o, &im, &e), 0);
    assert_int_equal(s.argv.n, 2);
    assert_string_equal(s.argv.v[0], "/own");
    assert_string_equal(s.argv.v[1], "word");
    spec_done(&s);

    assert_int_equal(parse_as("create", "--entrypoint= x", &s, &o, &e), 1);
    assert_int_equal(specflags_merge(&s, &o, &im, &e), -EINVAL);
    assert_string_equal(e.msg, "the image names no command: give one");
    spec_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ports_are_read_as_docker_reads_them),
        cmocka_unit_test(a_port_that_is_none_is_refused),
        cmocka_unit_test(mounts_are_read_as_docker_reads_them),
        cmocka_unit_test(a_relative_source_is_of_this_folder),
        cmocka_unit_test(a_mount_that_is_none_is_refused),
        cmocka_unit_test(limits_are_numbers_with_meaning),
        cmocka_unit_test(limits_out_of_range_are_refused),
        cmocka_unit_test(life_is_as_docker_has_it),
        cmocka_unit_test(files_of_variables_are_bounded),
        cmocka_unit_test(the_image_fills_what_was_not_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
