/* Rings of frames that are mapped, groups of sockets that share their frames, and the options of both. */
#include "sockets.h"
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/mman.h>

static struct sockaddr_in to;
static int sender, receiver;

static int packet(int type, int protocol, int version)
{
	int s = socket(AF_PACKET, type, 0);
	if (version >= 0 && set(s, SOL_PACKET, PACKET_VERSION, version))
		say("version", -1);
	struct sockaddr_ll l = {.sll_family = AF_PACKET, .sll_protocol = htons(protocol), .sll_ifindex = 1};
	if (bind(s, (void *)&l, sizeof l))
		say("bind", -1);
	set(s, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1);
	return s;
}

static int ring(int s, int option, int block, int blocks, int frame, int frames)
{
	struct tpacket_req r = {block, blocks, frame, frames};
	return setsockopt(s, SOL_PACKET, option, &r, sizeof r);
}

static int ring3(int s, int option, int block, int blocks, int frame, int frames, int ms, int private)
{
	struct tpacket_req3 r = {block, blocks, frame, frames, ms, private, 0};
	return setsockopt(s, SOL_PACKET, option, &r, sizeof r);
}

static void hello(const char *text)
{
	char b[2000];
	sendto(sender, text, strlen(text), 0, (void *)&to, sizeof to);
	recv(receiver, b, sizeof b, MSG_DONTWAIT);
}

static void link_address(struct sockaddr_ll *l)
{
	printf(" from family %d proto %04x index %d hatype %d type %d halen %d", l->sll_family, ntohs(l->sll_protocol),
	       l->sll_ifindex, l->sll_hatype, l->sll_pkttype, l->sll_halen);
}

/* Status bits without those of time stamps and checksums. */
static unsigned plain(unsigned long status)
{
	return status & ~(TP_STATUS_TS_SOFTWARE | TP_STATUS_CSUM_VALID | TP_STATUS_CSUMNOTREADY);
}

static int stamped(long sec)
{
	return labs(time(0) - sec) < 100;
}

static void statistics(int s)
{
	unsigned st[3] = {77, 77, 77};
	socklen_t n = sizeof st;
	int r = getsockopt(s, SOL_PACKET, PACKET_STATISTICS, st, &n);
	printf("statistics %d len %d: %u %u %u\n", r, n, st[0], st[1], st[2]);
}

static void options(void)
{
	int s = socket(AF_PACKET, SOCK_RAW, 0);
	int names[] = {PACKET_COPY_THRESH, PACKET_AUXDATA, PACKET_ORIGDEV, PACKET_VERSION, PACKET_RESERVE, PACKET_LOSS,
		       PACKET_TIMESTAMP, PACKET_TX_HAS_OFF, PACKET_QDISC_BYPASS, PACKET_IGNORE_OUTGOING};
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
		for (int v = -1; v < 4; v++) {
			int r = set(s, SOL_PACKET, names[i], v);
			printf("option %d = %d: %s", names[i], v, r ? strerrorname_np(errno) : "0");
			printf(" reads %d\n", get(s, SOL_PACKET, names[i]));
		}
		short two = 1;
		long eight = 1;
		say("two bytes", setsockopt(s, SOL_PACKET, names[i], &two, 2));
		say("eight bytes", setsockopt(s, SOL_PACKET, names[i], &eight, 8));
		set(s, SOL_PACKET, names[i], 0);
	}
	for (int v = -1; v < 4; v++) {
		int h = v;
		socklen_t n = 4;
		int r = getsockopt(s, SOL_PACKET, PACKET_HDRLEN, &h, &n);
		printf("hdrlen %d: %d", v, r ? -errno : h);
		n = 2;
		r = getsockopt(s, SOL_PACKET, PACKET_HDRLEN, &h, &n);
		printf(" short %d\n", r ? -errno : 0);
	}
	say("read ring", get(s, SOL_PACKET, PACKET_RX_RING));
	say("fanout", get(s, SOL_PACKET, PACKET_FANOUT));
	close(s);
}

static void layouts(void)
{
	int table[][4] = {{4096, 4, 2048, 8}, {4096, 4, 2048, 7}, {0, 4, 2048, 8}, {4097, 4, 2048, 8}, {-4096, 4, 2048, 8},
			  {4096, 0, 2048, 8}, {4096, 0, 0, 0}, {4096, 4, 2047, 8}, {4096, 4, 48, 340}, {4096, 4, 64, 256},
			  {4096, 4, 80, 204}, {4096, 4, 8192, 2}, {8192, 2, 4096, 4}, {4096, 4, 0, 0}};
	for (int version = 0; version < 3; version++)
		for (unsigned i = 0; i < sizeof table / sizeof *table; i++)
			for (int option = PACKET_RX_RING; option <= PACKET_TX_RING; option += PACKET_TX_RING - PACKET_RX_RING) {
				int *t = table[i], s = packet(SOCK_RAW, ETH_P_IP, version);
				int r = version == 2 ? ring3(s, option, t[0], t[1], t[2], t[3], 0, 0)
						     : ring(s, option, t[0], t[1], t[2], t[3]);
				printf("v%d ring %d layout %u: %s\n", version + 1, option, i, r ? strerrorname_np(errno) : "0");
				close(s);
			}
	int s = packet(SOCK_RAW, ETH_P_IP, 2);
	struct tpacket_req short_one = {4096, 4, 2048, 8};
	say("short request", setsockopt(s, SOL_PACKET, PACKET_RX_RING, &short_one, sizeof short_one));
	say("private too large", ring3(s, PACKET_RX_RING, 4096, 4, 2048, 8, 0, 4000));
	say("private wraps", ring3(s, PACKET_RX_RING, 4096, 4, 2048, 8, 0, -1));
	say("tx with private", ring3(s, PACKET_TX_RING, 4096, 4, 2048, 8, 0, 8));
	close(s);
	s = packet(SOCK_RAW, ETH_P_IP, 1);
	set(s, SOL_PACKET, PACKET_RESERVE, 2000);
	say("reserve too large", ring(s, PACKET_RX_RING, 4096, 4, 2048, 8));
	set(s, SOL_PACKET, PACKET_RESERVE, 0);
	say("map none", mmap(0, 4096, 3, MAP_SHARED, s, 0) == MAP_FAILED ? -1 : 0);
	say("ring", ring(s, PACKET_RX_RING, 4096, 4, 2048, 8));
	say("again", ring(s, PACKET_RX_RING, 4096, 4, 2048, 8));
	say("version", set(s, SOL_PACKET, PACKET_VERSION, 1));
	say("reserve", set(s, SOL_PACKET, PACKET_RESERVE, 1));
	say("loss", set(s, SOL_PACKET, PACKET_LOSS, 1));
	say("tx has off", set(s, SOL_PACKET, PACKET_TX_HAS_OFF, 1));
	printf("tx has off %d\n", get(s, SOL_PACKET, PACKET_TX_HAS_OFF));
	say("map less", mmap(0, 8192, 3, MAP_SHARED, s, 0) == MAP_FAILED ? -1 : 0);
	say("map more", mmap(0, 32768, 3, MAP_SHARED, s, 0) == MAP_FAILED ? -1 : 0);
	say("map part", mmap(0, 8192, 3, MAP_SHARED, s, 8192) == MAP_FAILED ? -1 : 0);
	char *m = mmap(0, 16384, 3, MAP_SHARED, s, 0);
	say("map", m == MAP_FAILED ? -1 : 0);
	say("take away", ring(s, PACKET_RX_RING, 0, 0, 0, 0));
	say("other", ring(s, PACKET_TX_RING, 4096, 4, 2048, 8));
	munmap(m, 16384);
	say("other", ring(s, PACKET_TX_RING, 8192, 4, 2048, 16));
	say("map one", mmap(0, 16384, 3, MAP_SHARED, s, 0) == MAP_FAILED ? -1 : 0);
	m = mmap(0, 49152, 3, MAP_SHARED, s, 0);
	say("map both", m == MAP_FAILED ? -1 : 0);
	munmap(m, 49152);
	say("take away", ring(s, PACKET_RX_RING, 0, 0, 0, 0));
	say("take away again", ring(s, PACKET_RX_RING, 0, 0, 0, 0));
	close(s);
}

static void frames(int version, int type, int reserve)
{
	int s = packet(type, ETH_P_IP, version);
	say("reserve", set(s, SOL_PACKET, PACKET_RESERVE, reserve));
	say("ring", ring(s, PACKET_RX_RING, 4096, 2, 2048, 4));
	char *m = mmap(0, 8192, 3, MAP_SHARED, s, 0);
	printf("before %x\n", ev(s, 0));
	for (int i = 0; i < 6; i++)
		hello("hello");
	printf("after %x\n", ev(s, 0));
	char b[64];
	say("recv", recv(s, b, sizeof b, MSG_DONTWAIT));
	for (int i = 0; i < 4; i++) {
		char *f = m + 2048 * i;
		if (version == 0) {
			struct tpacket_hdr *h = (void *)f;
			printf("frame %d: %x len %u snap %u mac %u net %u time %d", i, plain(h->tp_status), h->tp_len, h->tp_snaplen,
			       h->tp_mac, h->tp_net, stamped(h->tp_sec));
			link_address((void *)(f + TPACKET_ALIGN(sizeof *h)));
			printf(" data %.5s\n", f + h->tp_net + 28);
			h->tp_status = 0;
		} else {
			struct tpacket2_hdr *h = (void *)f;
			printf("frame %d: %x len %u snap %u mac %u net %u time %d vlan %u %u", i, plain(h->tp_status), h->tp_len,
			       h->tp_snaplen, h->tp_mac, h->tp_net, stamped(h->tp_sec), h->tp_vlan_tci, h->tp_vlan_tpid);
			link_address((void *)(f + TPACKET_ALIGN(sizeof *h)));
			printf(" data %.5s\n", f + h->tp_net + 28);
			h->tp_status = 0;
		}
	}
	statistics(s);
	printf("given back %x\n", ev(s, 0));
	hello("again");
	printf("again %x %.5s\n", ev(s, 0), m + (version ? ((struct tpacket2_hdr *)m)->tp_net : ((struct tpacket_hdr *)m)->tp_net) + 28);
	/* The mapping outlives the socket. */
	close(s);
	printf("closed %x\n", plain(*(unsigned *)m));
	munmap(m, 8192);
}

static void cut(void)
{
	int s = packet(SOCK_RAW, ETH_P_IP, 1);
	set(s, SOL_PACKET, PACKET_COPY_THRESH, 1);
	ring(s, PACKET_RX_RING, 4096, 1, 256, 16);
	char *m = mmap(0, 4096, 3, MAP_SHARED, s, 0);
	char text[600];
	memset(text, 'x', sizeof text);
	text[599] = 0;
	hello(text);
	struct tpacket2_hdr *h = (void *)m;
	printf("cut: %x len %u snap %u mac %u\n", plain(h->tp_status), h->tp_len, h->tp_snaplen, h->tp_mac);
	char b[2000];
	say("whole", recv(s, b, sizeof b, MSG_DONTWAIT));
	say("no more", recv(s, b, sizeof b, MSG_DONTWAIT));
	struct sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, 30)};
	struct sock_fprog p = {1, code};
	say("filter", setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &p, sizeof p));
	hello(text);
	h = (void *)(m + 256);
	printf("filtered: %x len %u snap %u\n", plain(h->tp_status), h->tp_len, h->tp_snaplen);
	munmap(m, 4096);
	close(s);
}

static void block(char *m, int i)
{
	struct tpacket_block_desc *b = (void *)(m + 4096 * i);
	struct tpacket_hdr_v1 *h = &b->hdr.bh1;
	printf("block %d: version %u private at %u status %x frames %u first %u len %u number %llu", i, b->version,
	       b->offset_to_priv, h->block_status, h->num_pkts, h->offset_to_first_pkt, h->blk_len,
	       (unsigned long long)h->seq_num);
	printf(" times %d %d\n", stamped(h->ts_first_pkt.ts_sec), h->block_status ? stamped(h->ts_last_pkt.ts_sec) : -1);
	char *f = (char *)b + h->offset_to_first_pkt;
	for (unsigned n = 0; n < h->num_pkts && h->block_status; n++) {
		struct tpacket3_hdr *t = (void *)f;
		printf("  next %u len %u snap %u status %x mac %u net %u time %d", t->tp_next_offset, t->tp_len, t->tp_snaplen,
		       plain(t->tp_status), t->tp_mac, t->tp_net, stamped(t->tp_sec));
		link_address((void *)(f + TPACKET_ALIGN(sizeof *t)));
		printf(" data %.5s\n", f + t->tp_net + 28);
		f += t->tp_next_offset;
	}
	h->block_status = 0;
}

static void blocks(int private)
{
	int s = packet(SOCK_RAW, ETH_P_IP, 2);
	say("ring", ring3(s, PACKET_RX_RING, 4096, 3, 2048, 6, 200, private));
	char *m = mmap(0, 3 * 4096, 3, MAP_SHARED, s, 0);
	printf("before %x\n", ev(s, 0));
	hello("hello");
	hello("world!");
	printf("soon %x\n", ev(s, 0));
	printf("later %x\n", waitfor(s, POLLIN, 1000));
	block(m, 0);
	printf("given back %x\n", ev(s, 0));
	char text[1200];
	memset(text, 'y', sizeof text);
	text[1199] = 0;
	for (int i = 0; i < 8; i++)
		hello(text);
	usleep(600000);
	printf("full %x\n", ev(s, 0));
	for (int i = 0; i < 3; i++)
		block(m, (i + 1) % 3);
	hello("thawed");
	waitfor(s, POLLIN, 1000);
	block(m, 1);
	statistics(s);
	munmap(m, 3 * 4096);
	close(s);
}

static void sending(int version)
{
	int s = packet(SOCK_DGRAM, ETH_P_IP, version), in = packet(SOCK_DGRAM, 0x88b5, -1);
	int r = version == 2 ? ring3(s, PACKET_TX_RING, 4096, 2, 2048, 4, 0, 0) : ring(s, PACKET_TX_RING, 4096, 2, 2048, 4);
	say("tx ring", r);
	char *m = mmap(0, 8192, 3, MAP_SHARED, s, 0);
	struct sockaddr_ll l = {.sll_family = AF_PACKET, .sll_protocol = htons(0x88b5), .sll_ifindex = 1, .sll_halen = 6};
	printf("free %x\n", ev(s, 0));
	say("nothing", sendto(s, 0, 0, 0, (void *)&l, sizeof l));
	for (int i = 0; i < 3; i++) {
		char *f = m + 2048 * i;
		char *data = f + (version == 2 ? sizeof(struct tpacket3_hdr) : 32);
		sprintf(data, "frame %d", i);
		unsigned len = i == 2 ? 5000 : 8;
		if (version == 0)
			((struct tpacket_hdr *)f)->tp_len = len, ((struct tpacket_hdr *)f)->tp_status = TP_STATUS_SEND_REQUEST;
		else if (version == 1)
			((struct tpacket2_hdr *)f)->tp_len = len, ((struct tpacket2_hdr *)f)->tp_status = TP_STATUS_SEND_REQUEST;
		else
			((struct tpacket3_hdr *)f)->tp_len = len, ((struct tpacket3_hdr *)f)->tp_status = TP_STATUS_SEND_REQUEST;
		if (i == 1)
			say("two", sendto(s, 0, 0, 0, (void *)&l, sizeof l));
	}
	say("too long", sendto(s, 0, 0, 0, (void *)&l, sizeof l));
	for (int i = 0; i < 4; i++)
		printf("frame %d: %x\n", i, version == 2 ? ((struct tpacket3_hdr *)(m + 2048 * i))->tp_status : *(unsigned *)(m + 2048 * i));
	char b[64] = "";
	while (recv(in, b, sizeof b, MSG_DONTWAIT) > 0)
		puts(b);
	munmap(m, 8192);
	close(s);
	close(in);
}

static int fanout(int s, int id, int type)
{
	return set(s, SOL_PACKET, PACKET_FANOUT, id | type << 16);
}

static int count(int s)
{
	char b[2000];
	int n = 0;
	while (recv(s, b, sizeof b, MSG_DONTWAIT) > 0)
		n++;
	return n;
}

static void groups(void)
{
	int loose = socket(AF_PACKET, SOCK_RAW, 0);
	say("not running", fanout(loose, 1, 0));
	close(loose);
	int a = packet(SOCK_RAW, ETH_P_IP, -1), b = packet(SOCK_RAW, ETH_P_IP, -1), c = packet(SOCK_RAW, ETH_P_IPV6, -1);
	say("unknown", fanout(a, 7, 9));
	say("rolls twice", fanout(a, 7, PACKET_FANOUT_ROLLOVER | PACKET_FANOUT_FLAG_ROLLOVER));
	say("own id", fanout(a, 7, PACKET_FANOUT_LB | PACKET_FANOUT_FLAG_UNIQUEID));
	say("join", fanout(a, 7, PACKET_FANOUT_LB));
	say("again", fanout(a, 7, PACKET_FANOUT_LB));
	printf("value %x\n", get(a, SOL_PACKET, PACKET_FANOUT));
	say("other kind", fanout(b, 7, PACKET_FANOUT_HASH));
	say("other flags", fanout(b, 7, PACKET_FANOUT_LB | PACKET_FANOUT_FLAG_DEFRAG));
	say("other protocol", fanout(c, 7, PACKET_FANOUT_LB));
	say("join", fanout(b, 7, PACKET_FANOUT_LB));
	struct sockaddr_ll l = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = 1};
	say("bind", bind(a, (void *)&l, sizeof l));
	for (int i = 0; i < 6; i++)
		hello("turn");
	int x = count(a), y = count(b);
	printf("by turns %d %d\n", x, y);
	close(a);
	hello("one");
	printf("left %d\n", count(b));
	close(b);
	a = packet(SOCK_RAW, ETH_P_IP, -1), b = packet(SOCK_RAW, ETH_P_IP, -1);
	say("unique", fanout(a, 0, PACKET_FANOUT_HASH | PACKET_FANOUT_FLAG_UNIQUEID));
	int id = get(a, SOL_PACKET, PACKET_FANOUT);
	printf("value %x\n", id >> 16);
	say("same", fanout(b, id & 0xffff, PACKET_FANOUT_HASH));
	for (int i = 0; i < 6; i++)
		hello("flow");
	x = count(a), y = count(b);
	printf("one flow %d %d\n", x > y ? x : y, x > y ? y : x);
	close(a), close(b);
	a = packet(SOCK_RAW, ETH_P_IP, -1), b = packet(SOCK_RAW, ETH_P_IP, -1);
	say("program", fanout(a, 9, PACKET_FANOUT_CBPF));
	say("program", fanout(b, 9, PACKET_FANOUT_CBPF));
	struct sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, 1)};
	struct sock_fprog p = {1, code};
	say("data", setsockopt(a, SOL_PACKET, PACKET_FANOUT_DATA, &p, sizeof p));
	say("data of none", setsockopt(c, SOL_PACKET, PACKET_FANOUT_DATA, &p, sizeof p));
	for (int i = 0; i < 3; i++)
		hello("prog");
	x = count(a), y = count(b);
	printf("named %d %d\n", x, y);
	close(a), close(b), close(c);
	struct { unsigned short id, kind; unsigned most; } args = {11, PACKET_FANOUT_LB, 1};
	a = packet(SOCK_RAW, ETH_P_IP, -1), b = packet(SOCK_RAW, ETH_P_IP, -1);
	say("limit", setsockopt(a, SOL_PACKET, PACKET_FANOUT, &args, sizeof args));
	say("above it", setsockopt(b, SOL_PACKET, PACKET_FANOUT, &args, sizeof args));
	args.most = 70000;
	say("too many", setsockopt(b, SOL_PACKET, PACKET_FANOUT, &args, sizeof args));
	close(a), close(b);
}

static long counter(void)
{
	char line[512];
	long bytes = 0, packets = 0, sent = 0, out = 0;
	FILE *f = fopen("/proc/net/dev", "r");
	while (f && fgets(line, sizeof line, f))
		if (strstr(line, "lo:"))
			sscanf(strstr(line, "lo:") + 3, "%ld %ld %*d %*d %*d %*d %*d %*d %ld %ld", &bytes, &packets, &sent, &out);
	if (f)
		fclose(f);
	if (bytes != sent || packets != out)
		puts("what leaves does not come in");
	return bytes * 100 + packets;
}

int main(void)
{
	own_network();
	setvbuf(stdout, 0, _IONBF, 0);
	socklen_t n = sizeof to;
	to = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	receiver = socket(AF_INET, SOCK_DGRAM, 0);
	sender = socket(AF_INET, SOCK_DGRAM, 0);
	bind(receiver, (void *)&to, n);
	getsockname(receiver, (void *)&to, &n);
	int s = socket(AF_PACKET, SOCK_RAW, 0);
	if (s < 0) {
		say("packet", -1);
		return 0;
	}
	close(s);
	options();
	layouts();
	frames(0, SOCK_RAW, 0);
	frames(1, SOCK_RAW, 0);
	frames(1, SOCK_DGRAM, 100);
	cut();
	blocks(0);
	blocks(13);
	for (int version = 0; version < 3; version++)
		sending(version);
	groups();
	long before = counter();
	hello("counted");
	printf("counted %ld\n", counter() - before);
	return 0;
}
