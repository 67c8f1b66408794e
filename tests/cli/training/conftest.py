from tests.bench.conftest import one_thread as one_thread
