from separate.cli import main

main()
