//! The program `necoctl`, also installed as `neco`.

fn main() {
    necoctl::main()
}
