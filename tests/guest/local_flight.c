#define _GNU_SOURCE
#include <sys/socket.h>
#include <sys/un.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <errno.h>
#include <poll.h>
static int pass(int s,int f){char b='x';struct iovec io={&b,1};char c[CMSG_SPACE(4)];struct msghdr m={0};m.msg_iov=&io;m.msg_iovlen=1;m.msg_control=c;m.msg_controllen=sizeof c;struct cmsghdr*h=CMSG_FIRSTHDR(&m);h->cmsg_level=SOL_SOCKET;h->cmsg_type=SCM_RIGHTS;h->cmsg_len=CMSG_LEN(4);memcpy(CMSG_DATA(h),&f,4);return sendmsg(s,&m,0);}
/* Files in flight: circles of sockets are collected, chains of them are dropped, and what is reachable stays. */
int main(int c,char**v){int n=c>1?atoi(v[1]):3000,i; int p[2]; pipe(p);
 for(i=0;i<n;i++){int s[2]; if(socketpair(AF_UNIX,i&1?SOCK_STREAM:SOCK_DGRAM,0,s)){perror("sp");break;} if(pass(s[0],s[0])<0||pass(s[1],s[1])<0||pass(s[0],p[1])<0){printf("pass %d %d\n",i,errno);break;} close(s[0]);close(s[1]);}
 printf("cycles %d\n",i);
 /* rings of three, and a listener in its own backlog */
 for(i=0;i<n/10;i++){int s[3][2]; for(int k=0;k<3;k++)socketpair(AF_UNIX,SOCK_STREAM,0,s[k]); for(int k=0;k<3;k++){pass(s[k][0],s[(k+1)%3][1]);pass(s[k][0],s[(k+1)%3][0]);} for(int k=0;k<3;k++){close(s[k][0]);close(s[k][1]);}
  int l=socket(AF_UNIX,SOCK_STREAM,0); struct sockaddr_un a={AF_UNIX}; sprintf(a.sun_path+1,"%d-%07d",getpid()%1000,i); bind(l,(void*)&a,16); listen(l,5); int q=socket(AF_UNIX,SOCK_STREAM,0); if(connect(q,(void*)&a,16)){printf("connect %d %d\n",i,errno);break;} pass(q,l); pass(q,q); close(q); close(l);
  /* another round runs the collection */
  int t[2]; socketpair(AF_UNIX,SOCK_STREAM,0,t); pass(t[0],t[0]); close(t[0]); close(t[1]); socketpair(AF_UNIX,SOCK_STREAM,0,t); close(t[0]); close(t[1]);}
 printf("rings %d\n",i);
 close(p[1]); int t[2]; for(i=0;i<2000;i++){socketpair(AF_UNIX,SOCK_STREAM,0,t); close(t[0]); close(t[1]);}
 struct pollfd f={p[0],POLLIN,0}; int r=poll(&f,1,1000); printf("pipe's writers are gone: %d %x\n",r,f.revents);
 /* alive ones are not collected */
 int a[2],b[2]; socketpair(AF_UNIX,SOCK_STREAM,0,a); socketpair(AF_UNIX,SOCK_STREAM,0,b); pass(a[0],b[1]); pass(b[0],b[1]); pass(b[0],a[1]); close(b[1]); close(b[0]); for(i=0;i<1000;i++){int t[2]; socketpair(AF_UNIX,SOCK_STREAM,0,t); pass(t[0],t[0]); close(t[0]); close(t[1]);}
 char d[8],cc[64]; struct iovec io={d,8}; struct msghdr m={0,0,&io,1,cc,64}; r=recvmsg(a[1],&m,0); int g; memcpy(&g,CMSG_DATA(CMSG_FIRSTHDR(&m)),4); printf("%d ",r); for(int k=0;k<2;k++){m.msg_controllen=64; r=recvmsg(g,&m,0); printf("%d %zu ",r,m.msg_controllen);} puts("");
 return 0;}
