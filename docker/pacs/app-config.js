// Configuration of OHIF (https://docs.ohif.org/configuration/configurationfiles): the PACS is on the viewer's own origin.
window.config = {
  routerBasename: "/",
  extensions: [],
  modes: [],
  customizationService: [{ "ohif.tours": { $set: [] } }],
  showStudyList: true,
  measurementTrackingMode: "none", // no questions about measurements that reports contain
  maxNumberOfWebWorkers: 3,
  showWarningMessageForCrossOrigin: false,
  showCPUFallbackMessage: true,
  showLoadingIndicator: true,
  strictZSpacingForVolumeViewport: true,
  defaultDataSourceName: "pacs",
  dataSources: [
    {
      namespace: "@ohif/extension-default.dataSourcesModule.dicomweb",
      sourceName: "pacs",
      configuration: {
        friendlyName: "Orthanc",
        name: "pacs",
        qidoRoot: "/dicom-web",
        wadoRoot: "/dicom-web",
        qidoSupportsIncludeField: false,
        imageRendering: "wadors",
        thumbnailRendering: "wadors",
        enableStudyLazyLoad: true,
        supportsFuzzyMatching: false,
        supportsWildcard: true,
        dicomUploadEnabled: false,
        omitQuotationForMultipartRequest: true,
        bulkDataURI: { enabled: true, relativeResolution: "studies" },
      },
    },
  ],
};
