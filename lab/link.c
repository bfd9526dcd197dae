/* A path between two network namespaces that has a rate, a delay, random loss and a queue that overflows.

       link NEAR_PID FAR_PID MBIT_PER_S ONE_WAY_MS LOSS_PERCENT QUEUE_KB SEED

   A TUN device `near` appears in the namespace of the one process, `far` in that of the other; "ready" on standard
   output says so.  What the far side sends (downloads) waits in the queue, is sent at the rate, may be lost, and arrives
   a delay later; what the near side sends is delayed only.  It runs until its standard input ends.

   Packets come as TCP hands them over, up to 64 KiB at once (TSO): each segment as a packet of its own would cost more
   than a core at 1 Gbit/s.  Loss is drawn for each segment even so, and what is lost is cut out. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { OFFLOAD = sizeof(struct virtio_net_hdr), LARGEST = OFFLOAD + 65536, AT_ONCE = 64, SECOND = 1000000000 };
/* Where the fields of the headers of IPv4 and of TCP lie. */
enum { AT_SIZE = 2, AT_CHECKSUM = 10, AT_ADDRESSES = 12 };
enum { AT_NUMBER = 4, AT_OFFSET = 12, AT_FLAGS = 13, AT_TCP_CHECKSUM = 16 };
enum { TCP = 6, FIN_AND_PUSH = 0x09 };

struct packet {
    struct packet *next;
    int64_t due; /* nanoseconds of the monotonic clock */
    size_t size;
    unsigned char bytes[]; /* the offload header, then IPv4 */
};

/* Packets on their way to one side, in the order in which they arrive. */
struct way {
    struct packet *first, *last;
};

struct line {
    double ns_per_byte, loss;
    int64_t delay;
    size_t queue;
    double free_at; /* when the last byte that waits will have been sent */
};

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * (int64_t)SECOND + time.tv_nsec;
}

static int device(const char *pid, const char *name) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%s/ns/net", pid);
    int space = open(path, O_RDONLY | O_CLOEXEC);
    if (space < 0 || setns(space, CLONE_NEWNET) < 0)
        fail(path);
    close(space);
    int tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (tun < 0)
        fail("/dev/net/tun");
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
    snprintf(request.ifr_name, IFNAMSIZ, "%s", name);
    int size = OFFLOAD;
    if (ioctl(tun, TUNSETIFF, &request) < 0 || ioctl(tun, TUNSETVNETHDRSZ, &size) < 0 ||
        ioctl(tun, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4) < 0)
        fail(name);
    return tun;
}

static void append(struct way *way, const unsigned char *bytes, size_t size, int64_t due) {
    struct packet *packet = malloc(sizeof *packet + size);
    if (!packet)
        fail("memory");
    *packet = (struct packet){.due = due, .size = size};
    memcpy(packet->bytes, bytes, size);
    if (way->last)
        way->last->next = packet;
    else
        way->first = packet;
    way->last = packet;
}

/* The one's complement sum of RFC 1071, not yet inverted. */
static uint16_t sum(const unsigned char *bytes, size_t size, uint32_t start) {
    for (size_t i = 0; i < size; i += 2)
        start += (uint32_t)bytes[i] << 8 | bytes[i + 1];
    while (start >> 16)
        start = (start & 0xffff) + (start >> 16);
    return (uint16_t)start;
}

static void put16(unsigned char *at, uint16_t value) {
    at[0] = value >> 8;
    at[1] = value & 0xff;
}

static uint32_t get32(const unsigned char *at) {
    uint32_t value;
    memcpy(&value, at, 4);
    return ntohl(value);
}

/* A packet of many segments, and where its parts lie. */
struct train {
    const unsigned char *bytes;
    size_t ip, head, payload, segment; /* bytes of the IP header, of both headers, behind them, and in each segment */
};

static bool is_train(const unsigned char *bytes, size_t size, struct train *train) {
    const struct virtio_net_hdr *offload = (const void *)bytes;
    if ((offload->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) != VIRTIO_NET_HDR_GSO_TCPV4)
        return false;
    size_t ip = (bytes[OFFLOAD] & 15) * 4;
    size_t head = ip + (bytes[OFFLOAD + ip + AT_OFFSET] >> 4) * 4;
    *train = (struct train){bytes, ip, head, size - OFFLOAD - head, offload->gso_size};
    return true;
}

/* Pass the segments from `begin` up to `end` on as a packet of their own. */
static void pass(struct way *way, const struct train *train, size_t begin, size_t end, int64_t due) {
    unsigned char out[LARGEST];
    size_t start = begin * train->segment, stop = end * train->segment;
    bool is_last = stop >= train->payload;
    size_t payload = (is_last ? train->payload : stop) - start, total = train->head + payload;
    memcpy(out, train->bytes, OFFLOAD + train->head);
    memcpy(out + OFFLOAD + train->head, train->bytes + OFFLOAD + train->head + start, payload);

    unsigned char *ip = out + OFFLOAD, *tcp = ip + train->ip;
    put16(ip + AT_SIZE, total);
    put16(ip + AT_CHECKSUM, 0);
    put16(ip + AT_CHECKSUM, ~sum(ip, train->ip, 0));
    uint32_t number = htonl(get32(tcp + AT_NUMBER) + start);
    memcpy(tcp + AT_NUMBER, &number, 4);
    if (!is_last)
        tcp[AT_FLAGS] &= ~FIN_AND_PUSH;
    /* The receiving kernel adds the rest to the sum of the pseudo header (RFC 9293, section 3.1). */
    put16(tcp + AT_TCP_CHECKSUM, sum(ip + AT_ADDRESSES, 8, TCP + total - train->ip));

    struct virtio_net_hdr *offload = (void *)out;
    offload->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    offload->csum_start = train->ip;
    offload->csum_offset = AT_TCP_CHECKSUM;
    if (payload <= train->segment) {
        offload->gso_type = VIRTIO_NET_HDR_GSO_NONE;
        offload->gso_size = 0;
    }
    append(way, out, OFFLOAD + total, due);
}

/* A packet of the far side enters the line. */
static void enter(struct line *line, struct way *way, const unsigned char *bytes, size_t size) {
    int64_t came = now();
    size_t wire = size - OFFLOAD;
    if (line->free_at < came)
        line->free_at = came;
    if ((line->free_at - came) / line->ns_per_byte + wire > line->queue)
        return; /* the queue overflows */
    line->free_at += wire * line->ns_per_byte;
    int64_t due = (int64_t)line->free_at + line->delay;
    struct train train;
    if (!is_train(bytes, size, &train)) {
        if (drand48() >= line->loss)
            append(way, bytes, size, due);
        return;
    }
    size_t segments = (train.payload + train.segment - 1) / train.segment, begin = 0;
    for (size_t i = 0; i < segments; i++) {
        if (drand48() >= line->loss)
            continue;
        if (i > begin)
            pass(way, &train, begin, i, due);
        begin = i + 1;
    }
    if (begin == 0)
        append(way, bytes, size, due);
    else if (begin < segments)
        pass(way, &train, begin, segments, due);
}

/* Hand over what is due. */
static void deliver(struct way *way, int tun) {
    int64_t time = now();
    while (way->first && way->first->due <= time) {
        struct packet *packet = way->first;
        if (write(tun, packet->bytes, packet->size) < 0 && errno == EAGAIN)
            return;
        way->first = packet->next;
        if (!way->first)
            way->last = NULL;
        free(packet);
    }
}

static int64_t next_due(const struct way *one, const struct way *other) {
    int64_t due = one->first ? one->first->due : INT64_MAX;
    return other->first && other->first->due < due ? other->first->due : due;
}

/* Wait for a packet, or until one on its way is due; false when standard input has ended. */
static bool rest(int near, int far, int64_t due) {
    struct pollfd watched[] = {{near, POLLIN, 0}, {far, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    int64_t left = due - now();
    struct timespec time = {left / SECOND, left % SECOND};
    if (left > 0)
        ppoll(watched, 3, due == INT64_MAX ? NULL : &time, NULL);
    return !watched[2].revents;
}

int main(int count, char **arguments) {
    if (count != 8) {
        fprintf(stderr, "usage: link NEAR_PID FAR_PID MBIT_PER_S ONE_WAY_MS LOSS_PERCENT QUEUE_KB SEED\n");
        return 2;
    }
    struct line line = {.ns_per_byte = 8000 / atof(arguments[3]),
                        .delay = atof(arguments[4]) * 1e6,
                        .loss = atof(arguments[5]) / 100,
                        .queue = atof(arguments[6]) * 1000};
    srand48(atol(arguments[7]));
    prctl(PR_SET_TIMERSLACK, 1000);
    int near = device(arguments[1], "near"), far = device(arguments[2], "far");
    printf("ready\n");
    fflush(stdout);

    struct way down = {0}, up = {0};
    unsigned char bytes[LARGEST];
    do {
        ssize_t size;
        for (int i = 0; i < AT_ONCE && (size = read(far, bytes, sizeof bytes)) > 0; i++)
            enter(&line, &down, bytes, size);
        for (int i = 0; i < AT_ONCE && (size = read(near, bytes, sizeof bytes)) > 0; i++)
            append(&up, bytes, size, now() + line.delay);
        deliver(&down, near);
        deliver(&up, far);
    } while (rest(near, far, next_due(&down, &up)));
    return 0;
}
