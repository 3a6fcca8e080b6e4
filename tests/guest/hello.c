/* Arguments, environment, the auxiliary vector, exit status. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	setenv("FRUIT", "drupe", 1);
	printf("argc %d, env %s\n", argc, getenv("FRUIT"));
	printf("page size %ld, random %s, execfn is argv[0]: %d\n", sysconf(_SC_PAGESIZE),
	       getauxval(AT_RANDOM) ? "there" : "missing", strcmp((char *)getauxval(AT_EXECFN), argv[0]));
	printf("phdr %s entry %s secure %lu\n", getauxval(AT_PHDR) ? "set" : "0", getauxval(AT_ENTRY) ? "set" : "0",
	       getauxval(AT_SECURE));
	fflush(stdout);
	return 7;
}
