from tests.cli.typed import vidkit as vidkit
