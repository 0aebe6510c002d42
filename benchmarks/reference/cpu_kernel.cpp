// A hand-written AVX-512 kernel for Y[M,N] = X[M,K] @ W^T with balanced-sparse W: the yardstick for generated CPU kernels.
// Not a part of the product. cpu_reference.py beside it builds, packs for, checks and times it; docs/cpu.md explains it.
// Design: "rows in lanes, x window in a register, permute by packed in-block index".
// Y[M,N] = X[M,K] @ W^T, X row-major [M,K] (ld=K), Y row-major [M,N]: no transposes needed.
// MODE 0: fp32, B=16, vpermps      window = 1 block  (16 f32)            4-bit idx, 8 steps per index vector
// MODE 1: bf16 x bf16 -> fp32, B=16, vpermw + vdpbf16ps, window = 2 blocks (32 bf16), 4-bit idx, 4 steps/vector
// MODE 2: u8 x s8 -> s32, B=16, vpermb + vpdpbusd, window = 4 blocks (64 bytes), 4-bit idx, 2 steps/vector
// MODE 3: fp32, B=32, vpermt2ps    window = 1 block (2 zmm)              8-bit idx, 4 steps per index vector
// MODE 4: fp32 activations, bf16 weights, B=16, vpermps (weight-only compression): 4-bit idx, 8 steps/vector, w zmm holds 2 steps
// MODE 5: fp32 activations, int8 weights (per-row scale), B=16, vpermps: w zmm holds 4 steps
// one "step" = one slot of every block in the window for 16 rows.   layout: [K/Kt][N/(16RG)][step][RG][64 bytes]
#include <immintrin.h>
#include <stdint.h>
#include <stddef.h>
#include <string.h>
#include <utility>
#include <type_traits>
#include <numeric>
#define AI __attribute__((always_inline)) inline
extern "C" { void GOMP_parallel(void(*)(void*),void*,unsigned,unsigned); int omp_get_thread_num(void); int omp_get_num_threads(void); }
// The threads of another pool, given by its launch(task, data, count): two pools that spin on the same cores wait for each other.
typedef int (*Task)(int id,void*env,void*data); struct Env{ void*sync; int32_t count; };
static int (*launch)(Task,void*,int); extern "C" void bs_threads(int (*l)(Task,void*,int)){ launch=l; }
template<class F> static inline void PAR(int nt,F&&f){ if(nt<=1){ f(0,1); return; }
  if(launch){ launch([](int id,void*env,void*p){ (*(F*)p)(id,((Env*)env)->count); return 0; },(void*)&f,nt); return; }
  GOMP_parallel([](void*p){ (*(F*)p)(omp_get_thread_num(),omp_get_num_threads()); },(void*)&f,nt,0); }
typedef __m512 V; typedef __m512i I;
template<class F,int... Is> AI void sf_(F&&f,std::integer_sequence<int,Is...>){ (f(std::integral_constant<int,Is>()),...); }
template<int N_,class F> AI void SF(F&&f){ sf_(f,std::make_integer_sequence<int,N_>()); }
#ifndef PFD
#define PFD 8192
#endif
constexpr int NIs[]={8,4,2,4,8,8}, WINs[]={16,32,64,32,16,16}, ESZ[]={4,2,1,4,4,4}, WSTEP[]={1,1,1,1,2,4};
template<int MODE,int k,int M,int RG> static void uni(int Mtot,int N,int K,int Kt,int GB,const char*x,const char*w,const char*ip,const float*sc,const float*corr,float*y,int nt){
  constexpr int NI=NIs[MODE],WIN=WINs[MODE],ES=ESZ[MODE],WS=WSTEP[MODE];
  constexpr int L=std::lcm(NI,k), UW=L/k, STEPS=L;          // windows and steps per unrolled body
  constexpr bool INT=(MODE==2), SCALE=(MODE==2||MODE==5);
  const int nwin=Kt/WIN, nk=K/Kt, G=N/16/RG, TT=nwin/UW; const size_t wtile=(size_t)nwin*k*RG*64/WS, itile=(size_t)nwin*k/NI*RG*64;
  const I c1=_mm512_set1_epi32(0x00100000), m1=_mm512_set1_epi32(0x000f000f), c2=_mm512_set1_epi32(0x30201000), m2=_mm512_set1_epi8(0x0f);
  constexpr int NA=(M*RG<4?4/(M*RG):1); // extra accumulators for latency when M*RG small
  const size_t ldx=(size_t)K*ES;
  PAR(nt,[&](int id,int n){ int g0=(long)G*id/n,g1=(long)G*(id+1)/n;
   for(int kt=0;kt<nk;kt++) for(int gb=g0;gb<g1;gb+=GB){ int ge=gb+GB<g1?gb+GB:g1;
   for(int m0=0;m0<Mtot;m0+=M){ const char*x0=x+(size_t)m0*ldx+(size_t)kt*Kt*ES;
    for(int g=gb;g<ge;g++){ V acc[NA][RG][M]; float*yp=y+(size_t)m0*N+(size_t)g*16*RG;
      SF<NA*RG*M>([&](auto i){ acc[i.value/(RG*M)][i.value/M%RG][i.value%M]=_mm512_setzero_ps(); });
      if(kt) SF<RG*M>([&](auto i){ acc[0][i.value/M][i.value%M]=_mm512_loadu_ps(yp+(size_t)(i.value%M)*N+(i.value/M)*16); });
      const char*ii=ip+((size_t)kt*G+g)*itile; const char*wp=w+((size_t)kt*G+g)*wtile; const char*xb=x0;
      for(int t=0;t<TT;t++){ I idx[RG]; I wr[RG];
        SF<STEPS>([&](auto sc_){ constexpr int s=sc_.value; constexpr int j=s%NI; constexpr int na=s%NA; constexpr int win=s/k;
          if constexpr(j==0) SF<RG>([&](auto r){ idx[r.value]=_mm512_loadu_si512(ii+(s/NI*RG+r.value)*64); if constexpr(M==1||r.value==0) _mm_prefetch(ii+(s/NI*RG+r.value)*64+PFD/4,_MM_HINT_T0); });
          V wv[RG]; I is[RG];
          SF<RG>([&](auto rc){ constexpr int r=rc.value; const char*wq=wp+(s/WS*RG+r)*64;
            if constexpr(s%WS==0){ wr[r]=_mm512_loadu_si512(wq); _mm_prefetch(wq+PFD,_MM_HINT_T0); }
            if constexpr(WS==1) wv[r]=_mm512_castsi512_ps(wr[r]);
            else if constexpr(MODE==4) wv[r]=_mm512_castsi512_ps(s%2==0?_mm512_slli_epi32(wr[r],16):_mm512_and_si512(wr[r],_mm512_set1_epi32(0xffff0000)));
            else wv[r]=_mm512_cvtepi32_ps(s%4==3?_mm512_srai_epi32(wr[r],24):_mm512_srai_epi32(_mm512_slli_epi32(wr[r],24-8*(s%4)),24));
            if constexpr(MODE==0||MODE==4||MODE==5) is[r]=j?_mm512_srli_epi32(idx[r],4*j):idx[r];
            else if constexpr(MODE==3) is[r]=j?_mm512_srli_epi32(idx[r],8*j):idx[r];
            else if constexpr(MODE==1) is[r]=_mm512_ternarylogic_epi32(j?_mm512_srli_epi16(idx[r],4*j):idx[r],m1,c1,0xEA);
            else is[r]=_mm512_ternarylogic_epi32(j?_mm512_srli_epi16(idx[r],4*j):idx[r],m2,c2,0xEA); });
          SF<M>([&](auto mc){ constexpr int m=mc.value; const char*xq=xb+m*ldx+win*WIN*ES; 
            if constexpr(MODE==3){ V xa=_mm512_loadu_ps((const float*)xq),xc=_mm512_loadu_ps((const float*)(xq+64)); SF<RG>([&](auto rc){ constexpr int r=rc.value; acc[na][r][m]=_mm512_fmadd_ps(wv[r],_mm512_permutex2var_ps(xa,is[r],xc),acc[na][r][m]); }); }
            else { I xv=_mm512_loadu_si512(xq); SF<RG>([&](auto rc){ constexpr int r=rc.value; V&a=acc[na][r][m];
              if constexpr(MODE==0||MODE>=4) a=_mm512_fmadd_ps(wv[r],_mm512_permutexvar_ps(is[r],_mm512_castsi512_ps(xv)),a);
              else if constexpr(MODE==1){ I p=_mm512_permutexvar_epi16(is[r],xv); a=_mm512_dpbf16_ps(a,(__m512bh)p,(__m512bh)_mm512_castps_si512(wv[r])); }
              else a=_mm512_castsi512_ps(_mm512_dpbusd_epi32(_mm512_castps_si512(a),_mm512_permutexvar_epi8(is[r],xv),_mm512_castps_si512(wv[r]))); }); } }); });
        wp+=STEPS/WS*RG*64; ii+=STEPS/NI*RG*64; xb+=UW*WIN*ES; }
      SF<RG*M>([&](auto i){ constexpr int r=i.value/M,m=i.value%M; V v=acc[0][r][m];
        SF<NA-1>([&](auto q){ v= INT?_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(v),_mm512_castps_si512(acc[q.value+1][r][m]))):_mm512_add_ps(v,acc[q.value+1][r][m]); });
        if(SCALE&&kt==nk-1){ const float*s_=sc+(size_t)(g*RG+r)*16; if(INT) v=_mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_castps_si512(v)),_mm512_loadu_ps(s_),_mm512_loadu_ps(corr+(size_t)(g*RG+r)*16)); else v=_mm512_mul_ps(v,_mm512_loadu_ps(s_)); }
        _mm512_storeu_ps(yp+(size_t)m*N+r*16,v); }); } } } }); }
#ifndef ONLY
#ifdef KX
#define MODES(X) X(0)X(1)
#else
#define MODES(X) X(0)X(1)X(2)X(3)X(4)X(5)
#endif
#endif
template<int MODE> static int disp(int k,int M,int RG,int Mtot,int N,int K,int Kt,int GB,const char*x,const char*w,const char*ip,const float*sc,const float*corr,float*y,int nt){
#define U_(kk,m,r) if(k==kk&&M==m&&RG==r){ uni<MODE,kk,m,r>(Mtot,N,K,Kt,GB,x,w,ip,sc,corr,y,nt); return 0; }
#ifdef UK_
#elif defined(KX)
#define UK_(m,r) U_(6,m,r)U_(10,m,r)U_(12,m,r)U_(14,m,r)U_(16,m,r)
#else
#define UK_(m,r) U_(1,m,r)U_(2,m,r)U_(3,m,r)U_(4,m,r)U_(8,m,r)
#endif
  UK_(1,1)UK_(1,2)UK_(1,4)UK_(4,2)UK_(8,1)UK_(8,2) return -1; }
extern "C" int bs_uni(int mode,int k,int M,int RG,int Mtot,int N,int K,int Kt,int GB,const char*x,const char*w,const char*ip,const float*sc,const float*corr,float*y,int nt){
  switch(mode){
#define X_(m) case m: return disp<m>(k,M,RG,Mtot,N,K,Kt,GB,x,w,ip,sc,corr,y,nt);
  MODES(X_) } return -1; }

// dense fp32 gemv with software prefetch: the honest M=1 dense limit.  W row-major [N,K]
extern "C" int bs_gemv(int N,int K,const float*x,const float*w,float*y,int nt){
  PAR(nt,[&](int id,int n){ int G=N/4; int g0=(long)G*id/n,g1=(long)G*(id+1)/n;
    for(int g=g0;g<g1;g++){ const float*p=w+(size_t)g*4*K; V a[4],b[4]; SF<4>([&](auto r){ a[r.value]=b[r.value]=_mm512_setzero_ps(); });
      for(int k=0;k<K;k+=32){ V x0=_mm512_loadu_ps(x+k),x1=_mm512_loadu_ps(x+k+16); SF<4>([&](auto r){ const float*q=p+(size_t)r.value*K+k; a[r.value]=_mm512_fmadd_ps(x0,_mm512_loadu_ps(q),a[r.value]); b[r.value]=_mm512_fmadd_ps(x1,_mm512_loadu_ps(q+16),b[r.value]); _mm_prefetch((const char*)q+2048,_MM_HINT_T0); _mm_prefetch((const char*)q+2112,_MM_HINT_T0); }); }
      SF<4>([&](auto r){ y[g*4+r.value]=_mm512_reduce_add_ps(_mm512_add_ps(a[r.value],b[r.value])); }); } }); return 0; }
