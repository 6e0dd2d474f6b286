// Light or dark: what was chosen here before, or what the system has.
(() => {
  const system = matchMedia('(prefers-color-scheme: dark)');
  const saved = () => {
    try {
      return localStorage.getItem('nodetap-theme');
    } catch {
      return null; // Storage may be forbidden.
    }
  };
  const apply = () => {
    const theme = saved() || (system.matches ? 'dark' : 'light');
    document.documentElement.dataset.theme = theme;
    document.dispatchEvent(new Event('theme'));
  };
  system.addEventListener('change', apply);
  apply();
})();
