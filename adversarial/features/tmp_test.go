package features
import ("testing";"time";"context";"sort"; _ "temper/engine/cpu")
func TestTmp(t *testing.T){
 s,err:=Defaults().Resolve(); if err!=nil{t.Fatal(err)}
 t0:=time.Now()
 l,err:=newLab(s); if err!=nil{t.Fatal(err)}
 t.Log("compile",time.Since(t0))
 for _,tr:=range Trainings(){
 t0=time.Now()
 r,err:=l.run(context.Background(),0,tr,func(int){}); if err!=nil{t.Fatal(err)}
 t.Log(tr,time.Since(t0))
 for _,x:=range r.Readings{ t.Logf("%d u %.3f v %.3f",x.Step,x.Value("u"),x.Value("v"))}
 var ks []string; for k:=range r.Last().Values{ks=append(ks,k)}; sort.Strings(ks)
 for _,k:=range ks{t.Logf("%s %.3f",k,r.Last().Values[k])}
 t0=time.Now(); l.measure(0); t.Log("probe",time.Since(t0))
 }
}
