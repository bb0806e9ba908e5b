fn main() -> std::process::ExitCode {
    kuiper::cli::main()
}
