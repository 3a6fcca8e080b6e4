/* Which sockets answer which requests about interfaces, and what the loopback interface tells of itself (SIOCETHTOOL). */
#include "sockets.h"
#include <linux/ethtool.h>
#include <linux/sockios.h>

static void request(int family, const char *name, unsigned long number, int value)
{
	int s = socket(family, family == AF_NETLINK ? SOCK_RAW : SOCK_DGRAM, 0);
	struct ifreq r = {0};
	strcpy(r.ifr_name, name);
	r.ifr_ifindex = value;
	int n = ioctl(s, number, &r);
	printf("family %d %s %lx: %s", family, name, number, n < 0 ? strerrorname_np(errno) : "0");
	if (n >= 0)
		for (int i = 0; i < 16; i++)
			printf(" %02x", ((unsigned char *)&r.ifr_addr)[i]);
	puts("");
	close(s);
}

static void tool(const char *name, unsigned command, unsigned room)
{
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	unsigned data[64] = {command, room};
	struct ifreq r = {0};
	strcpy(r.ifr_name, name);
	r.ifr_data = (void *)data;
	int n = ioctl(s, SIOCETHTOOL, &r);
	printf("ethtool %s %x: %d", name, command, n < 0 ? errno : 0);
	if (n >= 0 && command != ETHTOOL_GFEATURES)
		for (int i = 1; i < 6; i++)
			printf(" %x", data[i]);
	puts("");
	close(s);
}

int main(void)
{
	own_network();
	setvbuf(stdout, 0, _IONBF, 0);
	int families[] = {AF_INET, AF_INET6, AF_UNIX, AF_NETLINK};
	unsigned long numbers[] = {SIOCGIFFLAGS, SIOCGIFADDR, SIOCGIFDSTADDR, SIOCGIFBRDADDR, SIOCGIFNETMASK, SIOCGIFMETRIC,
				   SIOCGIFMTU, SIOCGIFHWADDR, SIOCGIFINDEX, SIOCGIFTXQLEN, SIOCGIFSLAVE, SIOCGMIIPHY,
				   SIOCGHWTSTAMP, SIOCDEVPRIVATE};
	for (unsigned f = 0; f < 4; f++)
		for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
			request(families[f], "lo", numbers[i], 0);
			request(families[f], "none", numbers[i], 0);
		}
	request(AF_INET, "lo", SIOCADDMULTI, 0);
	request(AF_INET, "lo", SIOCADDMULTI, 1);
	request(AF_INET, "lo", SIOCDELMULTI, 0);
	request(AF_INET, "lo", SIOCSIFHWADDR, 5);
	request(AF_INET, "lo", SIOCSIFHWADDR, 772);
	int s = socket(AF_INET6, SOCK_DGRAM, 0);
	struct { struct in6_addr ip; unsigned prefix; int index; } own = {{{{0xfd, [15] = 1}}}, 64, 1};
	say("add", ioctl(s, SIOCSIFADDR, &own));
	say("add again", ioctl(s, SIOCSIFADDR, &own));
	say("delete", ioctl(s, SIOCDIFADDR, &own));
	say("delete again", ioctl(s, SIOCDIFADDR, &own));
	own.prefix = 129;
	say("prefix", ioctl(s, SIOCSIFADDR, &own));
	own.prefix = 64;
	own.index = 77;
	say("interface", ioctl(s, SIOCSIFADDR, &own));
	unsigned commands[] = {ETHTOOL_GSET, ETHTOOL_GDRVINFO, ETHTOOL_GWOL, ETHTOOL_GLINK, ETHTOOL_GRINGPARAM, ETHTOOL_GRXCSUM,
			       ETHTOOL_GTXCSUM, ETHTOOL_GSG, ETHTOOL_GTSO, ETHTOOL_GGSO, ETHTOOL_GGRO, ETHTOOL_GFEATURES,
			       ETHTOOL_GCHANNELS, ETHTOOL_GET_TS_INFO, ETHTOOL_GLINKSETTINGS, 0xffff};
	for (unsigned i = 0; i < sizeof commands / sizeof *commands; i++)
		tool("lo", commands[i], 0);
	tool("lo", ETHTOOL_GPERMADDR, 0);
	tool("lo", ETHTOOL_GPERMADDR, 6);
	tool("none", ETHTOOL_GLINK, 0);
	return 0;
}
