//! scratch
#![allow(warnings)]
use rusqlite::Connection;
fn main() {
    let c = Connection::open_in_memory().unwrap();
    println!("{}", rusqlite::version());
    let mut q = c.prepare("SELECT CAST(value ->> 0 AS REAL), value ->> 0 FROM json_each(?1)").unwrap();
    let mut q2 = c.prepare("SELECT CAST(value ->> 0 AS REAL) FROM json_each(?1)").unwrap();
    let (mut bad, mut badtxt, mut n, mut badnice) = (0u64, 0u64, 0u64, 0u64);
    fastrand::seed(7);
    for round in 0..2000 {
        let xs: Vec<(f64, String)> = (0..500).map(|i| {
            let x = match (round) % 4 { 0 => loop { let f = f64::from_bits(fastrand::u64(..) & !(1<<63)); if f.is_finite() { break f } }, 1 => fastrand::f64() * 1000.0, 2 => (fastrand::u64(..10_000_000_000) as f64) / 1e9, _ => fastrand::f64() };
            (x, serde_json::to_string(&x).unwrap()) }).collect();
        let j = serde_json::to_string(&xs.iter().map(|x| (x.0,)).collect::<Vec<_>>()).unwrap();
        let got: Vec<f64> = q.query_map([&j], |r| r.get::<_, f64>(0)).unwrap().map(|x| x.unwrap()).collect();
        let j2 = serde_json::to_string(&xs.iter().map(|x| (&x.1,)).collect::<Vec<_>>()).unwrap();
        let got2: Vec<f64> = q2.query_map([&j2], |r| r.get::<_, f64>(0)).unwrap().map(|x| x.unwrap()).collect();
        for i in 0..500 { n += 1; if got[i].to_bits() != xs[i].0.to_bits() { bad += 1; if round % 4 != 0 { badnice += 1; } if bad < 5 { println!("{:?} {:?}", xs[i].0, got[i]); } } if got2[i].to_bits() != xs[i].0.to_bits() { badtxt += 1; } }
    }
    println!("{n} values, {bad} wrong as numbers ({badnice} nice), {badtxt} as texts");
}
